"""Linux on KVM: Debian's cloud kernel with the guest agent as its first process, booted once on the monitor; then a snapshot, a copy in another
monitor, and a program that the agent runs in the copy. Where KVM has no virtualisation in the processor behind it, the boot takes minutes, and the
kernel is changed in four places (`kernel_for_pvm`).
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.microvm.monitor import Monitor

from casemate import wire
from casemate.guest import kernels
from casemate.guest.initramfs import AGENT, initramfs

from .kernel_for_pvm import Unfit, patched

Result = tuple[str, str, str]
NAME = "linux boots, and its copy runs a program"
# What ring 0 may not execute there, and what is only slow.
EMULATED = (
    "noxsave nopti clearcpuid=smap,smep,umip,cx16,xsave,fsgsbase,pcid,invpcid,rdtscp,popcnt,sse4_1,sse4_2,ssse3,aes,"
    "pclmulqdq,avx,avx2,sha_ni,bmi1,bmi2,adx,movbe noapic idle=nomwait lpj=1000000 tsc=reliable init_on_alloc=0"
)
MS_BIND = 4096
BOOT_S = 1500
ANSWER_S = 120


def linux() -> Iterator[Result]:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield NAME, "no /dev/kvm", "no /dev/kvm that can be opened"
        return
    kernel = kernels.find("cloud")
    if kernel is None:
        yield NAME, "no kernel: run `casemate kernel install cloud`", ""
        return
    # It takes ten minutes there, and does not come to the agent yet (docs/decisions/2026-11-28-linux-on-kvm.md).
    is_emulated = not {"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split())
    if is_emulated and "CASEMATE_PATIENCE" not in os.environ:
        reason = "KVM has no virtualisation in the processor behind it; CASEMATE_PATIENCE=1 tries it all the same"
        yield NAME, reason, reason
        return
    with tempfile.TemporaryDirectory(prefix="linux") as folder:
        image = Path(folder, "vmlinux")
        try:
            content = Path(kernel.image).read_bytes()
            image.write_bytes(patched(content) if is_emulated else content)
            print(f"  {journey(Path(folder), image, initramfs(kernel.name, kernel.modules), is_emulated)}", flush=True)
        except (Unfit, AssertionError, OSError) as error:
            yield NAME, str(error) or type(error).__name__, ""
            return
    yield NAME, "", ""


def journey(folder: Path, image: Path, archive: str, is_emulated: bool) -> str:
    """How long each part took. Raises AssertionError."""
    words = f"console=ttyS0 panic=-1 reboot=k nokaslr random.trust_cpu=on mitigations=off rdinit=/{AGENT} casemate.link=hvc {EMULATED if is_emulated else ''}"
    machine = Monitor(folder)
    try:
        machine.ok("PUT", "/casemate/console", {"uds_path": str(folder / "link")})
        machine.ok("PUT", "/boot-source", {"kernel_image_path": str(image), "initrd_path": archive, "boot_args": words})
        machine.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
        began = time.monotonic()
        machine.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        agent = Agent(folder / "link", BOOT_S)
        try:
            hello = agent.hear("hello")
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{error}; the kernel's last words: {last_words(machine)}") from None
        booted = time.monotonic() - began
        machine.ok("PATCH", "/vm", {"state": "Paused"})
        files = {"snapshot_path": str(folder / "state"), "mem_file_path": str(folder / "memory")}
        machine.connection.timeout = ANSWER_S
        machine.ok("PUT", "/snapshot/create", files)
        agent.close()
    finally:
        machine.close()
    copies = []
    for _ in range(2):  # the second one finds the files in the page cache
        began = time.monotonic()
        copy = Monitor(folder)
        try:
            load = {"snapshot_path": files["snapshot_path"], "mem_backend": {"backend_type": "File", "backend_path": files["mem_file_path"]}}
            copy.ok("PUT", "/snapshot/load", load | {"resume_vm": True})
            output, status = run(folder / "link")
        finally:
            copy.close()
        assert output.startswith(b"casemate-engine "), output
        assert status == 0, status
        copies.append(time.monotonic() - began)
    return f"Linux {hello['release']}: boot {booted:.1f} s, restore to a program's end {copies[0] * 1e3:.0f} and {copies[1] * 1e3:.0f} ms"


def last_words(machine: Monitor) -> str:
    said = b""
    for stream in (machine.process.stdout, machine.process.stderr):
        assert stream
        os.set_blocking(stream.fileno(), False)
        while more := stream.read(1 << 20):
            said += more
    return " | ".join(said.decode(errors="replace").splitlines()[-4:])


def run(link: Path) -> tuple[bytes, int]:
    """The engine's own version, as a program in the guest: nothing else that is executable lies there."""
    agent = Agent(link, ANSWER_S)
    try:
        agent.tell("configure", time_ns=time.time_ns(), entropy=os.urandom(64), share=None)
        program = {"args": ["/run/casemate-engine", "--version"], "env": []}
        bind = {"op": "mount", "source": "/proc/self/exe", "destination": program["args"][0], "flags": MS_BIND, "create": "auto"}
        root = {"op": "root", "path": "/", "shared": True}
        plan = {"version": 1, "ops": [root, bind, *({"op": kind, **program} for kind in ("check_exec", "exec"))]}
        limits = {"memory": 0, "pids": 0}
        agent.tell("create", process=1, container="test", plan=wire.pack(plan), terminal=False, limits=limits, default_action=False)
        output = b""
        while True:
            message = agent.hear()
            match message["to_host"]:
                case "ready":
                    agent.tell("start", process=1)
                case "data":
                    output += bytes(message["bytes"])
                case "exited":
                    return output, int(str(message["status"]))
                case "failed":
                    raise AssertionError(str(message))
    finally:
        agent.close()


class Agent:
    """A client of the guest agent's protocol: a length of four bytes, then a map (docs/decisions/2026-11-28-guest-protocol.md)."""

    def __init__(self, path: Path, patience_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience_s)
        self._socket.connect(str(path))

    def close(self) -> None:
        self._socket.close()

    def tell(self, kind: str, **fields: object) -> None:
        body = wire.pack({"to_guest": kind, **fields})
        self._socket.sendall(struct.pack("<I", len(body)) + body)

    def hear(self, kind: str = "") -> dict[str, object]:
        """The next message, or the next of a kind."""
        while True:
            (length,) = struct.unpack("<I", self._exactly(4))
            message = wire.unpack(self._exactly(length))
            assert isinstance(message, dict), message
            if kind in ("", message["to_host"]):
                return message

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                more = self._socket.recv(length - len(data))
            except TimeoutError:
                raise AssertionError("the agent says nothing") from None
            assert more, "the link ended"
            data += more
        return data

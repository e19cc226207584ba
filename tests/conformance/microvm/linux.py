"""Linux on KVM: a kernel of the store with the guest agent as its first process, booted once on the monitor; then a snapshot, copies in other monitors,
and a program that the agent runs in each.

Where KVM has no virtualisation in the processor behind it, each instruction of the kernel takes 0.3 to 0.9 us: there it is one built for the purpose
(`casemate kernel build poor-kvm`; some minutes, once), and its first file system is a disk, which nobody copies.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bundle import CASEMATE
from tests.microvm.monitor import Monitor

from casemate import wire
from casemate.errors import HostError
from casemate.guest import kernels
from casemate.guest.agent_disk import agent_disk
from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor.casemate import EMULATED

Result = tuple[str, str, str]
NAME = "linux boots, and its copies run a program"
MS_BIND = 4096
MEMORY_MIB = 128
COPIES = 3
BUILD_S = 3600
BOOT_S = 600  # 30 alone, six times as much beside others
ANSWER_S = 120


def linux() -> Iterator[Result]:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield NAME, "no /dev/kvm", "no /dev/kvm that can be opened"
        return
    is_poor = not {"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split())
    with tempfile.TemporaryDirectory(prefix="linux") as folder:
        try:
            start = on_poor_kvm() if is_poor else on_kvm()
            print(f"  {journey(Path(folder), *start)}", flush=True)
        except (HostError, AssertionError, OSError, subprocess.SubprocessError) as error:
            yield NAME, str(error) or type(error).__name__, ""
            return
    yield NAME, "", ""


Start = tuple[dict[str, str], str, list[dict[str, object]]]


def on_kvm() -> Start:
    """The boot source, words of its own, and drives: what guests boot."""
    kernel = kernels.preferred()
    assert kernel, "no kernel: run `casemate kernel build`"
    return {"kernel_image_path": kernel.image, "initrd_path": initramfs(*kernel.loads())}, f"rdinit=/{AGENT}", []


def on_poor_kvm() -> Start:
    subprocess.run([CASEMATE, "kernel", "build", kernels.POOR_KVM, "--yes"], check=True, timeout=BUILD_S)
    kernel = kernels.find(kernels.POOR_KVM)
    assert kernel
    drive = {"drive_id": "root", "path_on_host": agent_disk(), "is_root_device": True, "is_read_only": True}
    return {"kernel_image_path": kernel.image}, f"init=/{AGENT} {EMULATED} quiet", [drive]


def journey(folder: Path, source: dict[str, str], words: str, drives: list[dict[str, object]]) -> str:
    """How long each part took. Raises AssertionError."""
    words = f"console=ttyS0 panic=-1 reboot=k nokaslr random.trust_cpu=on mitigations=off casemate.link=hvc {words}"
    machine = Monitor(folder)
    try:
        machine.ok("PUT", "/casemate/console", {"uds_path": str(folder / "link")})
        machine.ok("PUT", "/boot-source", {**source, "boot_args": words})
        machine.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": MEMORY_MIB})
        for drive in drives:
            machine.ok("PUT", f"/drives/{drive['drive_id']}", drive)
        began = time.monotonic()
        machine.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        agent = Agent(folder / "link", BOOT_S)
        try:
            hello = agent.hear("hello")
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{error}; the kernel's last words: {last_words(machine)}") from None
        booted = time.monotonic() - began
        processor = machine.processor_s()
        machine.connection.timeout = ANSWER_S
        machine.ok("PATCH", "/vm", {"state": "Paused"})
        files = {"snapshot_path": str(folder / "state"), "mem_file_path": str(folder / "memory")}
        began = time.monotonic()
        machine.ok("PUT", "/snapshot/create", files)
        saved = time.monotonic() - began
        agent.close()
    finally:
        machine.close()
    written = (folder / "memory").stat().st_blocks // 2048
    copies = [copy(folder, files) for _ in range(COPIES)]
    word, end = (sorted(times) for times in zip(*copies, strict=True))
    return (
        f"Linux {hello['release']}, {MEMORY_MIB} MiB: boot {booted:.1f} s ({processor:.1f} of the processor); snapshot {saved * 1e3:.0f} ms ({written} MiB); "
        f"start of a monitor to its copy's first word {word[0] * 1e3:.0f} ms, median {word[COPIES // 2] * 1e3:.0f}; "
        f"to a program's end {end[0] * 1e3:.0f} ms, median {end[COPIES // 2] * 1e3:.0f}"
    )


def copy(folder: Path, files: dict[str, str]) -> tuple[float, float]:
    """Seconds from a monitor's start to the first byte that the guest says, and to the end of a program in it."""
    began = time.monotonic()
    monitor = Monitor(folder)
    try:
        load = {"snapshot_path": files["snapshot_path"], "mem_backend": {"backend_type": "File", "backend_path": files["mem_file_path"]}}
        monitor.ok("PUT", "/snapshot/load", load | {"resume_vm": True})
        agent = Agent(folder / "link", ANSWER_S)
        try:
            agent.tell("nudge")
            agent.hear()
            word = time.monotonic() - began
            output, status = run(agent)
        finally:
            agent.close()
    finally:
        monitor.close()
    assert output.startswith(b"casemate-engine "), output
    assert status == 0, status
    return word, time.monotonic() - began


def last_words(machine: Monitor) -> str:
    said = b""
    for stream in (machine.process.stdout, machine.process.stderr):
        assert stream
        os.set_blocking(stream.fileno(), False)
        while more := stream.read(1 << 20):
            said += more
    return " | ".join(said.decode(errors="replace").splitlines()[-4:])


def run(agent: Agent) -> tuple[bytes, int]:
    """The engine's own version, as a program in the guest: nothing else that is executable lies there."""
    agent.tell("configure", time_ns=time.time_ns(), entropy=os.urandom(64), share=None, is_narrow=False)
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

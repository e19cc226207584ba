"""A monitor under test: its process, its API over the Unix socket, and what its guest prints."""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GUESTS = Path(__file__).parent / "guests"
ROOT = Path(__file__).parents[2]
FLAGS = """-O2 -m64 -mcmodel=kernel -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector -mno-red-zone
-fno-asynchronous-unwind-tables -mgeneral-regs-only -fcf-protection=none -Wall -Wextra -Werror
-Wl,--build-id=none,-z,max-page-size=4096,-z,noexecstack,--no-warn-rwx-segments"""


def engine() -> Path:
    """The engine: $CASEMATE_ENGINE, or the newest build of this tree."""
    if given := os.environ.get("CASEMATE_ENGINE"):
        return Path(given)
    built = [*ROOT.glob("target/*/*/casemate-engine"), *ROOT.glob("src/casemate/_bin/casemate-engine")]
    return max(built, key=lambda path: path.stat().st_mtime)


def build_guest(entry: str, target: Path, base: str = "0x100000") -> Path:
    """Builds the test guest with the entry `start` (64-bit) or `pvh`, to run at `base`."""
    script = target.with_suffix(".ld")
    script.write_text((GUESTS / "guest.ld").read_text().replace("0x100000", base))
    compiler = shutil.which("gcc") or "cc"
    sources = [GUESTS / f"{entry}.S", *sorted(GUESTS.glob("*.c"))]
    symbol = "_start" if entry == "start" else "pvh_start"
    words = [compiler, *FLAGS.split(), f"-Wl,-T,{script}", f"-Wl,-e,{symbol}", "-o", str(target)]
    subprocess.run([*words, *map(str, sources)], check=True)
    return target


def build_bzimage(target: Path) -> Path:
    """The test guest in the form of a bzImage: one real-mode sector that is never run, then the kernel, entered at 0x200."""
    elf = build_guest("start", target.with_suffix(".elf"), "0x100200")
    subprocess.run(["objcopy", "-O", "binary", str(elf), str(target)], check=True)
    setup = bytearray(1024)
    # boot.rst: setup_sects, boot_flag, magic, version 2.15, LOADED_HIGH, code32_start, XLF_KERNEL_64.
    fields = [(0x1F1, "B", 1), (0x1FE, "H", 0xAA55), (0x202, "I", 0x53726448), (0x206, "H", 0x20F), (0x211, "B", 1), (0x214, "I", 0x100000), (0x236, "H", 1)]
    for offset, form, value in fields:
        struct.pack_into(f"<{form}", setup, offset, value)
    target.write_bytes(bytes(setup) + bytes(0x200) + target.read_bytes())
    return target


# What takes longer has failed: ten times what a traced monitor needs on a busy machine.
LIMIT_S = 60


def wait_for(what: Callable[[], Any], timeout_s: float = LIMIT_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return found


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Monitor:
    """Starts on construction; `close` kills what is left."""

    def __init__(self, folder: Path, *options: str, prefix: Sequence[str] = (), pass_fds: Sequence[int] = ()) -> None:
        path = folder / "api.socket"
        self.adopt([*prefix, str(engine()), "vmm", "--api-sock", str(path), *options], path, pass_fds)

    def adopt(self, words: Sequence[str], path: Path, pass_fds: Sequence[int] = ()) -> None:
        """Starts the command and waits for its API socket."""
        self.socket = path
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds)
        self.printed = b""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                self.connection = UnixConnection(self.socket)
                self.connection.connect()
                return
            except OSError:
                self.connection.close()
                assert self.process.poll() is None, self.process.stderr.read() if self.process.stderr else ""
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.002)

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        response = self.connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, content = self.request(method, path, body)
        assert status in (200, 204), content
        return content

    def fault(self, method: str, path: str, body: Any = None) -> str:
        status, content = self.request(method, path, body)
        assert (status, list(content)) == (400, ["fault_message"])
        return str(content["fault_message"])

    def boot(self, guest: Path, arguments: str, memory_mib: int = 128) -> None:
        self.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": arguments})
        self.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": memory_mib})
        self.ok("PUT", "/actions", {"action_type": "InstanceStart"})

    def read_until(self, text: str, timeout_s: float = LIMIT_S) -> str:
        """Everything printed up to and with `text`."""
        wanted = text.encode()
        deadline = time.monotonic() + timeout_s
        assert self.process.stdout
        while wanted not in self.printed:
            rest = deadline - time.monotonic()
            assert rest > 0, self.printed
            if select.select([self.process.stdout], [], [], rest)[0]:
                more = os.read(self.process.stdout.fileno(), 65536)
                assert more, (self.printed, self.process.stderr.read() if self.process.stderr else "")
                self.printed += more
        head, _, self.printed = self.printed.partition(wanted)
        return (head + wanted).decode()

    def type(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def finish(self, timeout_s: float = LIMIT_S) -> str:
        """Waits for the guest's end; what it still printed."""
        output, errors = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, errors
        return (self.printed + output).decode()

    def processor_s(self) -> float:
        """What it has used of the processor, its guest included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=LIMIT_S)

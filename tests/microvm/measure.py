"""Start times and memory of the monitor with a bare guest: `python tests/microvm/measure.py [RUNS]`; the figures are in docs/design/microvm.md."""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from microvm.monitor import build_guest, engine


def put(stream: socket.socket, path: str, body: object) -> None:
    text = json.dumps(body)
    stream.sendall(f"PUT {path} HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    answer = stream.recv(4096)
    assert b" 204 " in answer, answer


def connect(path: str) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    while True:
        try:
            stream.connect(path)
            return stream
        except OSError:
            time.sleep(0.00005)


def memory_kib(pid: int) -> tuple[int, int]:
    """PSS, whole and without the guest's memory (the mapping of 128 MiB)."""
    whole = guest = size = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Size":
            size = int(rest.split()[0])
        elif name == "Pss":
            whole += int(rest.split()[0])
            guest += int(rest.split()[0]) if size >= 128 << 10 else 0
    return whole, whole - guest


def one(folder: str, guest: Path) -> dict[str, float]:
    path = f"{folder}/api"
    output, inner = os.pipe()
    begin = time.perf_counter()
    actions = [(os.POSIX_SPAWN_DUP2, inner, 1), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    pid = os.posix_spawn(engine(), [str(engine()), "vmm", "--api-sock", path], os.environ, file_actions=actions)
    os.close(inner)
    stream = connect(path)
    ready = time.perf_counter()
    put(stream, "/boot-source", {"kernel_image_path": str(guest), "boot_args": "test=serial"})
    put(stream, "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    before = time.perf_counter()
    put(stream, "/actions", {"action_type": "InstanceStart"})
    started = time.perf_counter()
    select.select([output], [], [])
    first = time.perf_counter()
    whole, own = memory_kib(pid)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(output)
    stream.close()
    return {
        "exec to API ready, ms": (ready - begin) * 1e3,
        "InstanceStart, ms": (started - before) * 1e3,
        "exec to first guest byte, ms": (first - begin) * 1e3,
        "PSS, MiB": whole / 1024,
        "PSS without guest memory, MiB": own / 1024,
    }


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as folder:
        guest = build_guest("start", Path(folder) / "guest.elf")
        results = [one(folder, guest) for _ in range(runs)]
    for name in results[0]:
        values = [result[name] for result in results]
        print(f"{name:32} minimum {min(values):6.2f}  median {statistics.median(values):6.2f}")


if __name__ == "__main__":
    main()

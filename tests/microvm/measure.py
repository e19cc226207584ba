"""The monitor with a bare guest: start times, memory, what a disk's and a card's operation costs. A part of `make bench`.

`python tests/microvm/measure.py [RUNS]`; the figures are in docs/design/microvm.md. Firecracker's were measured on the development
machine with a build of its own: on another one they say nothing.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from microvm.monitor import build_guest, engine
from microvm.taps import MAC, echoes, inside, packet_socket


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
    Path(path).unlink(missing_ok=True)  # of the monitor before, which was killed: the next would first find out that nobody answers there
    output, inner = os.pipe()
    program = str(engine())  # Finding it takes as long as the monitor does.
    actions = [(os.POSIX_SPAWN_DUP2, inner, 1), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    begin = time.perf_counter()
    pid = os.posix_spawn(program, [program, "vmm", "--api-sock", path], os.environ, file_actions=actions)
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


# Firecracker 1.16, the same guest, 2026-11 (facts of the development machine). Its memory is RSS.
FIRECRACKER = {
    "exec to API ready, ms": 1.3,
    "InstanceStart, ms": 9.0,
    "exec to first guest byte, ms": 12.0,
    "PSS without guest memory, MiB": 3.05,
    # Of a Linux guest.
    "snapshot create, 32 MiB, ms": 52.0,
    "exec to first output after restore, 32 MiB, ms": 16.0,
    "exec to first output after restore, 128 MiB, ms": 27.0,
}
OPERATIONS = 2000
WINDOW = 64  # frames under way: a tap holds 1000


def line(name: str, values: list[float]) -> str:
    """Minimum and median, and where there is one the peer's figure and what ours are of it."""
    least, middle, peer = min(values), statistics.median(values), FIRECRACKER.get(name)
    beside = f"  Firecracker {peer:5.2f}: {least / peer:4.2f} / {middle / peer:4.2f}" if peer else ""
    return f"{name:50} minimum {least:8.2f}  median {middle:8.2f}{beside}"


def run(folder: str, guest: Path, arguments: str, config: dict[str, object], prefix: tuple[str, ...] = ()) -> float:
    """Seconds from start to end of a guest."""
    boot = {"boot-source": {"kernel_image_path": str(guest), "boot_args": arguments}, **config}
    Path(folder, "config").write_text(json.dumps(boot))
    words = [*prefix, str(engine()), "vmm", "--no-api", "--config-file", f"{folder}/config"]
    before = time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before


def cost_us(folder: str, guest: Path, test: str, config: dict[str, object], prefix: tuple[str, ...] = (), operations: int = OPERATIONS) -> float:
    """Microseconds of one operation: what more of them take longer."""
    few = min(run(folder, guest, f"test={test} count=1", config, prefix) for _ in range(3))
    many = min(run(folder, guest, f"test={test} count={operations}", config, prefix) for _ in range(3))
    return (many - few) / operations * 1e6


def echo_us(folder: str, guest: Path, namespace: str, size: int, at_once: int) -> float:
    """Microseconds until a frame that came in at the tap has gone out there: with this program's own two calls, and the host's stack."""
    boot = {"kernel_image_path": str(guest), "boot_args": "test=net-echo"}
    config = {"boot-source": boot, "network-interfaces": [{"iface_id": "n", "host_dev_name": "tap0", "guest_mac": MAC}]}
    Path(folder, "config").write_text(json.dumps(config))
    words = [*inside(namespace), str(engine()), "vmm", "--no-api", "--config-file", f"{folder}/config"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as monitor, packet_socket(namespace) as stream:
        assert monitor.stdout
        assert monitor.stdout.readline()
        frames = [b"." * (size - 14)] * at_once
        echoes(stream, frames)  # the monitor's buffer is made with the first
        began = time.perf_counter()
        for _ in range(OPERATIONS // at_once):
            echoes(stream, frames)
        spent = time.perf_counter() - began
        monitor.kill()
    return spent / (OPERATIONS // at_once * at_once) * 1e6


def operations(folder: str, guest: Path) -> None:
    print(f"{'exit to the monitor and back':50} {cost_us(folder, guest, 'exits', {}):6.1f} us")
    disk = Path(folder, "disk")
    disk.write_bytes(bytes(1 << 20))
    for io_engine in ("Sync", "Async"):
        drive = {"drive_id": "d", "path_on_host": str(disk), "is_root_device": False, "is_read_only": False, "io_engine": io_engine}
        for kib, kind, word in ((4, 0, "read"), (4, 1, "written"), (256, 0, "read"), (256, 1, "written")):
            cost = cost_us(folder, guest, f"block-speed size={kib << 10} kind={kind}", {"drives": [drive]}, operations=1000 if kib == 4 else 400)
            print(f"{f'{kib} KiB {word}, page cache, {io_engine}':50} {cost:6.1f} us {(kib << 10) / cost:6.0f} MB/s")
    name = f"cmm-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "tuntap", "add", "tap0", "mode", "tap"], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "tap0", "up"], check=True)
        card = {"iface_id": "n", "host_dev_name": "tap0"}
        for size in (1514, 32_000):
            cost = cost_us(folder, guest, f"net-speed size={size}", {"network-interfaces": [card]}, ("ip", "netns", "exec", name), operations=1000)
            print(f"{f'frame of {size} bytes to a tap':50} {cost:6.1f} us {size / cost:6.0f} MB/s")
        for size, at_once in ((60, 1), (1514, 1), (1514, WINDOW)):
            cost = echo_us(folder, guest, name, size, at_once)
            print(f"{f'{size} bytes to the guest and back, {at_once} at once':50} {cost:6.1f} us {size / cost:6.0f} MB/s")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as folder:
        guest = build_guest("start", Path(folder) / "guest.elf")
        results = [one(folder, guest) for _ in range(runs)]
        for name in results[0]:
            print(line(name, [result[name] for result in results]))
        operations(folder, guest)


if __name__ == "__main__":
    main()

"""Snapshots, forks and density: `python tests/microvm/measure_snapshot.py [RUNS]`; the figures are in docs/design/microvm.md."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from microvm.measure import connect, line
from microvm.monitor import build_guest, engine

MIB = 1 << 20
DENSITY_LIMIT = 4 << 30
# Of cgroup v1, and of v2: the directory to make one in, the file of its limit, that of its use.
_V1 = (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
_V2 = (Path("/sys/fs/cgroup"), "memory.max", "memory.current")


def request(stream: socket.socket, method: str, path: str, body: object) -> Any:
    text = json.dumps(body)
    stream.sendall(f"{method} {path} HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += stream.recv(65536)
    head, _, content = answer.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
    while len(content) < length:
        content += stream.recv(65536)
    assert head.split()[1] in (b"200", b"204"), answer
    return json.loads(content) if content else None


class Vm:
    def __init__(self, path: str) -> None:
        self.input, inner_input = os.pipe()[::-1]
        self.output, inner_output = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, inner_input, 0), (os.POSIX_SPAWN_DUP2, inner_output, 1)]
        program = str(engine())  # Finding it is not the monitor's time.
        self.begin = time.perf_counter()
        self.pid = os.posix_spawn(program, [program, "vmm", "--api-sock", path], os.environ, file_actions=actions)
        os.close(inner_input)
        os.close(inner_output)
        self.stream = connect(path)

    def boot(self, guest: Path, arguments: str, memory_mib: int, balloon: bool = False) -> None:
        request(self.stream, "PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": arguments})
        request(self.stream, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": memory_mib})
        if balloon:
            request(self.stream, "PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True})
        request(self.stream, "PUT", "/actions", {"action_type": "InstanceStart"})

    def wait(self, text: bytes = b"\n") -> None:
        got = b""
        while text not in got:
            select.select([self.output], [], [])
            got += os.read(self.output, 4096)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for fd in (self.input, self.output):
            os.close(fd)
        self.stream.close()


def snapshots(folder: str, guest: Path, memory_mib: int, touched_mib: int) -> dict[str, float]:
    paths = {"snapshot_path": f"{folder}/state", "mem_file_path": f"{folder}/memory"}
    vm = Vm(f"{folder}/original")
    vm.boot(guest, f"test=state mib={touched_mib}", memory_mib)
    vm.wait(b"ready\n")
    request(vm.stream, "PATCH", "/vm", {"state": "Paused"})
    before = time.perf_counter()
    request(vm.stream, "PUT", "/snapshot/create", paths)
    created = time.perf_counter() - before
    vm.end()
    copy = Vm(f"{folder}/copy")
    os.write(copy.input, b"o")
    request(copy.stream, "PUT", "/snapshot/load", paths | {"resume_vm": True})
    copy.wait()
    restored = time.perf_counter() - copy.begin
    copy.end()
    return {f"snapshot create, {memory_mib} MiB, ms": created * 1e3, f"exec to first output after restore, {memory_mib} MiB, ms": restored * 1e3}


def kill(children: list[dict[str, Any]]) -> None:
    handles = [os.pidfd_open(child["pid"]) for child in children]
    for handle in handles:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles:
        select.select([handle], [], [])
        os.close(handle)


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def forks(folder: str, guest: Path, count: int) -> dict[str, float]:
    vm = Vm(f"{folder}/parent")
    vm.boot(guest, "test=state mib=10", 128)
    vm.wait(b"ready\n")
    before = time.perf_counter()
    order = {"count": count, "child": {"api_sock": f"{folder}/child{{}}", "resume_vm": count == 1}}
    children = request(vm.stream, "PUT", "/casemate/fork", order)["children"]
    took = time.perf_counter() - before
    private = statistics.mean(private_kib(child["pid"]) for child in children)
    kill(children)
    vm.end()
    return {f"fork of {count}, ms per child": took * 1e3 / count, f"fork of {count}, private KiB per child": private}


def hierarchy() -> tuple[Path, str, str] | None:
    if (_V1[0] / _V1[1]).exists():
        return _V1
    control = _V2[0] / "cgroup.subtree_control"
    return _V2 if control.exists() and "memory" in control.read_text().split() else None


HIERARCHY = hierarchy()


class Group:
    """A cgroup with the limit, which this process and all that it starts from now on are in."""

    def __init__(self, kind: str) -> None:
        assert HIERARCHY
        base, limit, self._usage = HIERARCHY
        self.path = base / f"casemate-density-{os.getpid()}-{kind}"
        own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if (":memory:" in line) or (base == _V2[0] and line.startswith("0::")))
        self._before = base / own.rpartition(":")[2].lstrip("/")
        self.path.mkdir()
        (self.path / limit).write_text(str(DENSITY_LIMIT))
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def used(self) -> int:
        return int((self.path / self._usage).read_text())

    def close(self) -> None:
        (self._before / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(200):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.05)


def density(folder: str, guest: Path, kind: str, sample: int) -> float:
    """Prints and returns how many guests fit: what `sample` of them take together, kernel memory included, divided into the limit; of forks without the
    first.
    """
    group = Group(kind)
    try:
        empty = group.used()
        vms: list[Vm] = []
        children: list[dict[str, Any]] = []
        if kind == "forks":
            vms.append(Vm(f"{folder}/density"))
            vms[0].boot(guest, "test=state mib=10", 128)
            vms[0].wait(b"ready\n")
            base = group.used()
            while len(children) < sample:
                order = {"count": min(100, sample), "child": {"api_sock": f"{folder}/d{len(children)}-{{}}", "resume_vm": False}}
                children += request(vms[0].stream, "PUT", "/casemate/fork", order)["children"]
            each = (group.used() - base) / len(children)
            fits = (DENSITY_LIMIT - (base - empty)) / each
        else:
            for number in range(sample):
                vm = Vm(f"{folder}/{kind}{number}")
                vms.append(vm)
                if kind == "balloon":
                    vm.boot(guest, "test=balloon", 128, balloon=True)
                    request(vm.stream, "PATCH", "/balloon", {"amount_mib": 10})
                    vm.wait(b"inflated")
                else:
                    vm.boot(guest, "test=state mib=10", 128)
                    vm.wait(b"ready\n")
                request(vm.stream, "PATCH", "/vm", {"state": "Paused"})
            each = (group.used() - empty) / sample
            fits = DENSITY_LIMIT / each
        kill(children)
        for vm in vms:
            vm.end()
        print(f"{kind:10} {each / MIB:6.2f} MiB each of {sample}: {int(fits):6} in 4 GiB")
        return fits
    finally:
        group.close()


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        guest = build_guest("start", Path(folder) / "guest.elf")
        for _ in range(runs):
            for memory_mib, touched_mib in ((32, 14), (128, 14)):
                for name, value in snapshots(folder, guest, memory_mib, touched_mib).items():
                    results.setdefault(name, []).append(value)
            for count in (1, 50):
                for name, value in forks(folder, guest, count).items():
                    results.setdefault(name, []).append(value)
        for name, values in results.items():
            print(line(name, values))
        if HIERARCHY is None:
            print("density: not measured, for there is no memory controller at hand")
        else:
            fits = {kind: density(folder, guest, kind, sample) for kind, sample in (("plain", 20), ("balloon", 20), ("forks", 400))}
            print(f"forks of one: {fits['forks'] / fits['plain']:.1f} times as many as plain ones (aim: 10)")


if __name__ == "__main__":
    main()

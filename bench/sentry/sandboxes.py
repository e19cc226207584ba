"""`make bench-sentry`, third part: whole sandboxes. Their start, and what they hold and burn while they idle, one, ten and fifty at a time.

We adopt orphans meanwhile, so whatever a peer leaves behind is a descendant of ours, wherever it hides; the program itself is counted with it, since in
runsc it cannot be told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from bench.measure import timed  # noqa: E402
from bench.processes import adopting_orphans, descendants, pss_kib  # noqa: E402
from bench.sentry.run import runtimes  # noqa: E402
from tests.bundle import make_rootfs  # noqa: E402

from casemate import run as sdk_run  # noqa: E402

_STARTS = 15
_LIMIT_S = 120
_TOGETHER = 50


def make_bundle(directory: Path, *program: str) -> Path:
    """A busybox root, and `program` in it."""
    make_rootfs(directory / "rootfs")
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": list(program)}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@dataclass(frozen=True)
class Use:
    """Of a set of processes: memory in KiB (PSS), processor time in ns, how often their threads went to sleep."""

    pss_kib: int
    cpu_ns: int
    sleeps: int


def _field(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def use_of_descendants() -> Use:
    pss = cpu = sleeps = 0
    for pid in descendants(os.getpid()):
        pss += pss_kib(pid)
        with suppress(FileNotFoundError, ProcessLookupError, StopIteration):
            for task in Path(f"/proc/{pid}/task").iterdir():
                cpu += int((task / "schedstat").read_text().split()[0])
                sleeps += _field((task / "status").read_text(), "voluntary_ctxt_switches")
    return Use(pss, cpu, sleeps)


def _reap() -> None:
    """Everybody whom we adopted; those that live still are ended."""
    for pid in list(descendants(os.getpid())):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


class Idle:
    """Sandboxes of one peer that run in the background."""

    def __init__(self, base: list[str], bundle: Path, state: Path) -> None:
        self._command = [*base, "--root", str(state)]
        self._bundle = bundle
        self.ids: list[str] = []

    def start(self, count: int) -> int:
        """Starts that many, all at once; how many could not."""
        ids = [f"bench-{uuid.uuid4().hex[:10]}" for _ in range(count)]
        command = [*self._command, "run", "--detach", "--bundle", str(self._bundle)]
        running = [subprocess.Popen([*command, name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for name in ids]
        codes = [process.wait(_LIMIT_S) for process in running]
        self.ids += ids
        return sum(code != 0 for code in codes)

    def end(self) -> None:
        for name in self.ids:
            subprocess.run([*self._command, "delete", "--force", name], capture_output=True, check=False, timeout=_LIMIT_S)
        self.ids.clear()
        _reap()


@contextmanager
def idling(base: list[str], bundle: Path) -> Iterator[Idle]:
    # runsc leaves a mount in its state directory.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
        idle = Idle(base, bundle, Path(state))
        try:
            yield idle
        finally:
            idle.end()


def starts(peers: dict[str, list[str]], count: int) -> None:
    """Wall time from the command, or from the SDK's call, to the end of /bin/true; peers in turn."""

    def command(base: list[str]) -> Callable[[], object]:
        def start() -> None:
            name = f"bench-{uuid.uuid4().hex[:10]}"
            # Without a time limit: subprocess polls for the end where it is given one, by steps of up to 50 ms.
            timed([shutil.which(base[0]) or base[0], *base[1:], "--root", str(state), "run", "--bundle", str(bundle), name])

        return start

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
        bundle = make_bundle(Path(made), "/bin/true")
        actions = {name: command(base) for name, base in peers.items()}
        actions["sentry, SDK"] = lambda: sdk_run(["/bin/true"], isolation="sentry")
        times: dict[str, list[float]] = {name: [] for name in actions}
        for number in range(-1, count):
            for name, action in actions.items():
                begin = time.perf_counter()
                action()
                if number >= 0:
                    times[name].append((time.perf_counter() - begin) * 1e3)
    print("\nstart of /bin/true to its end, ms, minimum / median")
    for name, took in times.items():
        theirs = times.get("runsc")
        ratio = f"{min(took) / min(theirs):.2f} / {statistics.median(took) / statistics.median(theirs):.2f} of runsc" if theirs else ""
        print(f"  {name:<14}{min(took):8.1f} / {statistics.median(took):.1f}    {ratio}")


def idle_memory(peers: dict[str, list[str]], bundle: Path) -> None:
    print("\nidle sandboxes, PSS in KiB: of one; of each of ten")
    for name, base in peers.items():
        with idling(base, bundle) as idle:
            failed = idle.start(1)
            one = use_of_descendants().pss_kib
            failed += idle.start(9)
            ten = use_of_descendants().pss_kib / 10
        print(f"  {name:<14}{one:8d}   {ten:8.0f}{f'   {failed} did not start' if failed else ''}")


def idle_work(peers: dict[str, list[str]], bundle: Path, seconds: float) -> None:
    print(f"\none idle sandbox over {seconds:.0f} s: processor time in ms, sleeps of its threads (each a wake-up before)")
    for name, base in peers.items():
        with idling(base, bundle) as idle:
            idle.start(1)
            time.sleep(2)
            before = use_of_descendants()
            time.sleep(seconds)
            after = use_of_descendants()
        print(f"  {name:<14}{(after.cpu_ns - before.cpu_ns) / 1e6:8.2f}   {after.sleeps - before.sleeps:8d}")


def fifty(peers: dict[str, list[str]], bundle: Path) -> None:
    print(f"\n{_TOGETHER} sandboxes at once: failed, wall s until all run, processor ms each, PSS in KiB each")
    for name, base in peers.items():
        with idling(base, bundle) as idle:
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            begin = time.perf_counter()
            failed = idle.start(_TOGETHER)
            wall = time.perf_counter() - begin
            now, left = resource.getrusage(resource.RUSAGE_CHILDREN), use_of_descendants()
        ended_ms = (now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime) * 1e3
        print(f"  {name:<14}{failed:3d}   {wall:6.2f}   {(ended_ms + left.cpu_ns / 1e6) / _TOGETHER:8.1f}   {left.pss_kib / _TOGETHER:8.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("starts", "memory", "work", "fifty"), help="one of the parts")
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch an idle one")
    given = parser.parse_args()
    peers = {name: base for name, base in runtimes().items() if base}
    with adopting_orphans(), tempfile.TemporaryDirectory(prefix="casemate-bench-", ignore_cleanup_errors=True) as made:
        bundle = make_bundle(Path(made), "sleep", "1000")
        parts = {
            "starts": lambda: starts(peers, _STARTS),
            "memory": lambda: idle_memory(peers, bundle),
            "work": lambda: idle_work(peers, bundle, given.seconds),
            "fifty": lambda: fifty(peers, bundle),
        }
        for name, part in parts.items():
            if given.only in (None, name):
                part()
    return 0


if __name__ == "__main__":
    sys.exit(main())

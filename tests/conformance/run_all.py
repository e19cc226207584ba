"""`make conformance`: runtime-tools' suite, then the cases of every engine, on runc and on casemate with each isolation in one run (guests: where
ENGINES_WITH_GUESTS says).

What runc passes, ours must pass, but for published deviations; what runc fails too is skipped. The part microvm drives the
monitor by Firecracker's clients. Arguments select parts: runtime-tools podman containerd docker microvm. `--only WORD` takes the cases
whose names have the word in them, `--repeat N` runs each of them as often.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .engines.case import Box, Engine, cgroups_named, remove_cgroups, remove_tree
from .engines.cases import CASES, Case
from .engines.command import Failed
from .engines.containerd import Containerd
from .engines.docker import Docker
from .engines.podman import Podman
from .microvm import judges, kernel, linux, network, programs
from .runtime_tools import __main__ as runtime_tools
from .runtimes import DEVIATIONS, ENGINES_WITH_GUESTS, GUESTS, ORACLE, OURS, guests

RUNTIMES = runtime_tools.RUNTIMES
LEFT_BY_SUITE = "ocitest*"
CGROUPS_OF_SUITE = ("testdir", "cgrouptest")
# Some of the suite's tests race with the program they start (pidfile kills what may have ended), so runc has to pass as often.
STABLE = 4


@dataclass(frozen=True)
class Row:
    """One case: why each runtime failed it, nothing for a pass."""

    part: str
    name: str
    reasons: dict[str, str]
    ran: bool = True  # not for an engine that did not start: then nothing is known of ours

    def verdict(self, runtime: str) -> str:
        if self.ran and runtime not in self.reasons:
            return "not run"
        if not self.ran:
            return "failed"
        if self.reasons[ORACLE]:
            return "skipped"
        if not self.reasons[runtime]:
            return "passed"
        return "deviates" if f"{runtime}: {self.name}" in DEVIATIONS else "failed"

    @property
    def has_failed(self) -> bool:
        return any(self.verdict(runtime) == "failed" for runtime in (*OURS, GUESTS))

    def line(self) -> str:
        if not self.ran:
            return f"{self.name}: {self.reasons[ORACLE][:300]}"
        words = " ".join(f"{'FAIL' if reason else 'pass':<9}" for reason in self.reasons.values())
        notes = [f"{runtime}: {reason[:150]}" for runtime, reason in self.reasons.items() if reason]
        return f"{self.name:<42} {words} {'; '.join(notes)}".rstrip()


@dataclass(frozen=True)
class Choice:
    """Which cases run, and how often."""

    word: str
    times: int

    def of(self, names: Iterable[str]) -> Iterator[str]:
        return (name for name in names if self.word in name for _ in range(self.times))


def suite(choice: Choice) -> Iterator[Row]:
    """The rows of runtime-tools' suite; removes the directories, mounts and cgroups that its tests leave."""
    source = runtime_tools.build()
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))
    before = set(temporary.glob(LEFT_BY_SUITE))
    cgroups = [name for name in CGROUPS_OF_SUITE if not cgroups_named(name)]
    try:
        for test in choice.of(sorted(path.name for path in (source / "bin").iterdir() if not path.name.startswith("."))):
            row = once(source, test)
            for _ in range(STABLE - 1):
                if row.has_failed:
                    row = once(source, test)
            yield row
    finally:
        for directory in set(temporary.glob(LEFT_BY_SUITE)) - before:
            remove_tree(directory)
        for name in cgroups:
            remove_cgroups(name)


def once(source: Path, test: str) -> Row:
    reasons = {}
    for runtime in RUNTIMES:
        passed, why = runtime_tools.run(source, test, runtime)
        reasons[runtime] = "" if passed else why or "failed"
    return Row("runtime-tools", test, reasons)


def on_engine(kind: type[Engine], choice: Choice) -> Iterator[Row]:
    """The rows of the chosen cases that the engine has."""
    missing = [program for program in kind.programs if shutil.which(program) is None]
    if missing:
        yield Row(kind.name, f"{kind.name}: start", {ORACLE: f"not installed: {' '.join(missing)}"}, ran=False)
        return
    runtimes = {**RUNTIMES, GUESTS: guests()} if kind.name in ENGINES_WITH_GUESTS else RUNTIMES
    engine = kind(runtimes)
    try:
        engine.start()
        cases = {case.name: case for case in CASES if kind.name in case.engines}
        for name in choice.of(cases):
            yield Row(kind.name, name, {runtime: reason(engine, cases[name], runtime) for runtime in runtimes})
    except (Failed, subprocess.SubprocessError) as error:
        yield Row(kind.name, f"{kind.name}: start", {ORACLE: " ".join(str(error).split())}, ran=False)
    finally:
        engine.stop()


def reason(engine: Engine, case: Case, runtime: str) -> str:
    """Why the case fails on the runtime, or nothing."""
    try:
        with Box(engine, runtime) as box:
            case.check(box)
    except (Failed, OSError, ValueError, LookupError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def on_monitor(choice: Choice) -> Iterator[Row]:
    """The judges of the monitor's API, and the kernels of guests: nothing of runc's, so what they ask that is no matter of the API is what is skipped.

    One case makes what the next works with, so all run, once, and the choice is of what is told.
    """
    for name, why, excuse in itertools.chain(judges.judge(), kernel.kernel_of_ours(), linux.linux(), programs.programs(), network.networks()):
        if choice.word in name:
            yield Row("microvm", name, {ORACLE: excuse if why else "", **dict.fromkeys(OURS, why)})


PARTS: dict[str, Callable[[Choice], Iterator[Row]]] = {
    "runtime-tools": suite,
    "podman": lambda choice: on_engine(Podman, choice),
    "containerd": lambda choice: on_engine(Containerd, choice),
    "docker": lambda choice: on_engine(Docker, choice),
    "microvm": on_monitor,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run_all", description="Compares the runtimes, case by case.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {' '.join(PARTS)}; all, if none is given")
    parser.add_argument("--only", default="", metavar="WORD", help="the cases whose names have it in them")
    parser.add_argument("--repeat", default=1, type=int, metavar="N", help="how often each case runs (not of microvm)")
    asked = parser.parse_args(arguments)
    if unknown := [part for part in asked.parts if part not in PARTS]:
        parser.error(f"no such part: {' '.join(unknown)}; there are: {' '.join(PARTS)}")
    if os.geteuid() != 0:
        parser.error("needs root, as the engines do")
    choice = Choice(asked.only, asked.repeat)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what is started is removed then too
    rows = []
    for part in asked.parts or PARTS:
        columns = [*RUNTIMES, *([GUESTS] if part in ENGINES_WITH_GUESTS else [])]
        print(f"\n{part:<42} {' '.join(f'{runtime:<9}' for runtime in columns)}")
        for row in PARTS[part](choice):
            print(row.line(), flush=True)
            rows.append(row)
    if not rows:
        parser.error(f"no case has {asked.only!r} in its name")
    print()
    for runtime in (*OURS, GUESTS):
        counts = {verdict: sum(row.verdict(runtime) == verdict for row in rows) for verdict in ("passed", "failed", "deviates", "skipped")}
        print(f"{runtime}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
    return 1 if any(row.has_failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

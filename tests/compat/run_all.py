"""make compat [NAME...]: each workload under runc and under the isolation, in one run; a difference counts where runc passes.

A workload is a script of workloads/, services/ or toolchains/ (these over a layer of packages), whose output and exit code are compared, or `test_x`: a
suite of CPython's own, of which each test counts that passes under runc. A workload passes under runc if it ends with 0 within its time.
"""

from __future__ import annotations

import argparse
import difflib
import re
import signal
import sys
from pathlib import Path

from tests.compat.bundle import Outcome, run
from tests.compat.layers import PACKAGES, make_layer
from tests.compat.programs import build_programs
from tests.compat.root import make_root

HERE = Path(__file__).resolve().parent
CASEMATE = HERE.parents[1] / ".venv" / "bin" / "casemate"
SUITES = (
    "test_os test_posix test_subprocess test_signal test_threading test_select test_selectors test_mmap test_fcntl test_tempfile test_shutil test_pathlib "
    "test_pty test_multiprocessing_fork test_multiprocessing_spawn test_epoll test_time test_resource test_pwd test_largefile test_sqlite3 test_io "
    "test_fileio test_thread test_queue test_concurrent_futures test_socket test_asyncio"
).split()
LIMIT_S = 180.0
SUITE_LIMIT_S = 900.0
# A test with a description has its result on that line.
_LINE = re.compile(r"^(test\w+) \(([\w.]+)\)(?:\n[^\n]*?)? \.\.\. ", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make compat", description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads or CPython suites (default: all)")
    parser.add_argument("--isolation", default="sentry")
    parser.add_argument("--show", action="store_true", help="show what differs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the running container and its mount are removed then too
    root = make_root()
    layer_of = {path.stem: layer for layer in PACKAGES for path in sorted((HERE / layer).glob("*.sh"))}
    scripts = sorted(path.stem for path in (HERE / "workloads").glob("*.sh"))
    names = given.names or [*scripts, *layer_of, *SUITES]
    layers = {layer: make_layer(layer, root) for layer in PACKAGES if layer in map(layer_of.get, names)}
    runtimes = [["runc"], [str(CASEMATE), "--isolation", given.isolation]]
    failed = skipped = 0
    print(f"{'workload':<28} {'runc s':>8} {given.isolation + ' s':>9}  result", flush=True)
    for name in names:
        is_suite = name.startswith("test_")
        roots = [layers[layer_of[name]], root] if name in layer_of else [root]
        theirs, ours = [_suite(runtime, roots, name) if is_suite else _script(runtime, roots, name) for runtime in runtimes]
        verdict = _compare_suites(theirs, ours) if is_suite else _compare(theirs, ours)
        failed += verdict.startswith("FAIL")
        skipped += verdict.startswith("skip")
        print(f"{name:<28} {theirs.seconds:>8.2f} {ours.seconds:>9.2f}  {verdict}", flush=True)
        if given.show and verdict.startswith("FAIL"):
            _show(theirs, ours)
    print(f"{len(names) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def _script(runtime: list[str], roots: list[Path], name: str) -> Outcome:
    files = {"/workload.sh": next(HERE.glob(f"*/{name}.sh"))}
    if name == "programs":
        files |= {f"/{program.name}": program for program in build_programs()}
    return run(runtime, roots, ["bash", "/workload.sh"], files, LIMIT_S)


def _suite(runtime: list[str], roots: list[Path], name: str) -> Outcome:
    return run(runtime, roots, ["python3", "-u", "-m", "test", "-v", "--timeout", str(SUITE_LIMIT_S), name], {}, SUITE_LIMIT_S)


def _compare(theirs: Outcome, ours: Outcome) -> str:
    if theirs.code:
        return f"skip: runc ends with {theirs.code}"
    if ours.code:
        return f"FAIL: ends with {ours.code}: {_last(ours.stderr)}"
    return "pass" if ours.stdout == theirs.stdout else "FAIL: another output"


def results(text: str) -> dict[str, str]:
    """Each test of a verbose run and how it ended. Output of the test itself may stand between its name and its result."""
    found: dict[str, str] = {}
    marks = list(_LINE.finditer(text))
    # The shorter of the two ends it: there may be no test at all.
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        rest = text[mark.end() : following.start() if following else len(text)]
        verdict = re.search(r"\b(ok|FAIL|ERROR|skipped|expected failure)\b", rest)
        found[f"{mark[2]}.{mark[1]}"] = verdict[1] if verdict else "unfinished"
    return found


def _compare_suites(theirs: Outcome, ours: Outcome) -> str:
    expected, got = results(theirs.stdout + theirs.stderr), results(ours.stdout + ours.stderr)
    passing = [test for test, result in expected.items() if result == "ok"]
    if not passing:
        return f"skip: nothing passes under runc (exit code {theirs.code})"
    lost = [test for test in passing if got.get(test) != "ok"]
    if not lost:
        return f"pass: {len(passing)} tests"
    shown = ", ".join(f"{test.rsplit('.', 1)[-1]} ({got.get(test, 'not run')})" for test in lost[:6])
    return f"FAIL: {len(lost)} of {len(passing)}: {shown}{', ...' if len(lost) > 6 else ''}"


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:120] if lines else ""


def _show(theirs: Outcome, ours: Outcome) -> None:
    for line in list(difflib.unified_diff(theirs.stdout.splitlines(), ours.stdout.splitlines(), "runc", "ours", lineterm="", n=1))[:60]:
        print("   ", line[:200])
    print("    stderr:", ours.stderr[-1500:])


if __name__ == "__main__":
    sys.exit(main())

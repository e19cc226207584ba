"""`make bench`: all cases on casemate and its peers in one run, as one table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from bench import table  # noqa: E402
from bench.peers import NAMES, UNIFIED, Workshop  # noqa: E402

CASES = (
    "run_true", "create_start_delete", "create_start_delete_force", "verbs", "exec_true", "sdk", "do_true", "do_guest",
    "parallel", "resident", "cpu",
)  # fmt: skip
_INSIDE = "CASEMATE_BENCH_INSIDE"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30, help="runs of each peer in a case (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures and all samples to FILE")
    parser.add_argument("cases", nargs="*", metavar="CASE", default=[], help=f"only these, of: {' '.join(CASES)}")
    arguments = parser.parse_args()
    if arguments.count < 1 or set(arguments.cases) - set(CASES):
        parser.error("--count is at least 1, and a case one of: " + " ".join(CASES))
    return arguments


def _enter_namespace() -> None:
    """A mount namespace for the series. crun refuses a host with cgroup v1 and v2 both, so v2's tree is unmounted in it, for all peers alike.

    In its place goes an empty file system, gone with the namespace: crun makes directories there nevertheless, and they would stay on the host.
    """
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    if UNIFIED.is_mount():
        subprocess.run(["umount", str(UNIFIED)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(UNIFIED)], check=True)


def _heading(workshop: Workshop, count: int) -> str:
    hierarchy = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    lines = [f"{os.cpu_count()} cores, Linux {platform.release()}, cgroup {hierarchy}, Python {platform.python_version()}, {count} runs each, interleaved"]
    lines += [f"{name}: {workshop.peers[name].version}" for name in NAMES]
    return "\n".join([*lines, "cells: minimum / median; a ratio is met if that of the minimum and that of the median are"])


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    arguments = _arguments()
    if os.geteuid() != 0:
        sys.exit("needs root: the peers' containers and a mount namespace")
    _enter_namespace()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    directory = Path(tempfile.mkdtemp(prefix="casemate-bench-"))
    workshop = None
    try:
        workshop = Workshop(directory)
        heading = _heading(workshop, arguments.count)
        rows: list[table.Row] = []
        for case in arguments.cases or CASES:
            print(f"{case} ...", file=sys.stderr, flush=True)
            rows += importlib.import_module(f"bench.{case}.case").measure(workshop, arguments.count)
    finally:
        if workshop:
            workshop.close()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{heading}\n\n{table.text(rows)}")
    if arguments.json:
        versions = {name: workshop.peers[name].version for name in NAMES}
        Path(arguments.json).write_text(json.dumps({"count": arguments.count, "peers": versions, "cases": [row.document() for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()

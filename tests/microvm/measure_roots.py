"""What a root costs by each way that a guest can have it: the host's directory, an image of it. A part of `make bench`.

`python tests/microvm/measure_roots.py [ROOTFS [RUNS [HYPERVISOR]]]`; ROOTFS holds python3, gcc, find, date and sh, and is that of `make compat` if none is
named. The figures are in docs/decisions/2026-11-28-roots-of-guests.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from compat.root import make_root

CASEMATE = str(Path(sys.executable).with_name("casemate"))
INSIDE = """
t() { a=$(date +%s%N); "$@" > /dev/null; b=$(date +%s%N); echo $(((b - a) / 1000)); }
t find / -xdev; t find / -xdev; t python3 -c 'import asyncio, http.client, json, unittest'; t python3 -c 'import asyncio, http.client, json, unittest'
"""
# 32 MiB in one file: a guest under emulation takes minutes over as much in thousands.
READ = "cat /usr/lib/gcc/x86_64-linux-gnu/12/cc1 > /dev/null; echo read; exec sleep 1000"
GUESTS = 3


def command(way: str, root: str, *words: str) -> list[str]:
    return [CASEMATE, "--root", os.environ["STATE"], "do", "--isolation=microvm", "--rootfs", root, "--root-image", way, *words]


def start(way: str, root: str) -> float:
    began = time.monotonic()
    subprocess.run(command(way, root, "--", "true"), check=True)
    return (time.monotonic() - began) * 1000


def inside(way: str, root: str) -> list[float]:
    done = subprocess.run(command(way, root, "--", "sh", "-c", INSIDE), capture_output=True, text=True, check=True)
    return [int(line) / 1000 for line in done.stdout.split()]


def tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # a process of User Mode Linux' that has just ended
        return []
    return [pid, *(found for child in children for found in tree(int(child)))]


def pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def memory(way: str, root: str) -> float:
    """PSS of all processes of some guests that have read the same files, per guest, in MiB; and what is not of a file of the host's."""
    guests = [subprocess.Popen(command(way, root, "--", "sh", "-c", READ), stdout=subprocess.PIPE) for _ in range(GUESTS)]
    try:
        for guest in guests:
            assert guest.stdout
            assert guest.stdout.readline() == b"read\n"
        return sum(pss_kib(pid) for guest in guests for pid in tree(guest.pid)[1:]) / 1024 / GUESTS
    finally:
        for guest in guests:
            guest.terminate()
            guest.wait()


def main() -> None:
    root = sys.argv[1] if len(sys.argv) > 1 else str(make_root())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as state:
        os.environ["STATE"] = state
        for hypervisor in [sys.argv[3]] if len(sys.argv) > 3 else ["uml", "qemu"]:
            os.environ["CASEMATE_HYPERVISOR"] = hypervisor
            for way in sys.argv[4:] or ("no", "memory"):
                start(way, root)
                starts = [start(way, root) for _ in range(runs)]
                columns = zip(*(inside(way, root) for _ in range(2)), strict=True)
                figures = [f"{min(column):.0f}/{statistics.median(column):.0f}" for column in (starts, *columns)]
                print(hypervisor, way, "start, find, again, python, again:", *figures, flush=True)
                print(hypervisor, way, f"memory: {memory(way, root):.1f} MiB", flush=True)


main()

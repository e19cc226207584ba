"""Memory that a runtime keeps per idle container: PSS of every process that `create` and `start` leave behind, but for the program itself.

We adopt orphans meanwhile, so whatever stays is a descendant of ours, wherever it hides.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.measure import interleaved, timed
from bench.peers import OCI, Workshop
from bench.table import Aim, Row

NAME = "resident per container"
_PROGRAM = ("sleep", "1000")
_ROUNDS = 5
_SET_CHILD_SUBREAPER = 36


def _adopt_orphans(on: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _descendants(pid: int) -> Iterator[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _is_program(pid: int) -> bool:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]) == _PROGRAM
    except (FileNotFoundError, ProcessLookupError):
        return False


def _pss_kib(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):  # a zombie has none
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _stayed() -> list[int]:
    """What is there once the program runs: `start` may end before the program is in place."""
    while not any(map(_is_program, pids := list(_descendants(os.getpid())))):
        time.sleep(0.001)
    return pids


def _keep(workshop: Workshop, peer: str) -> dict[str, float]:
    container = workshop.container(peer, *_PROGRAM)
    try:
        timed(container.command("create"))
        timed(container.command("start"))
        kib = sum(_pss_kib(pid) for pid in _stayed() if not _is_program(pid))
    finally:
        workshop.remove(container)
        with suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass
    return {NAME: float(kib)}


def measure(workshop: Workshop, count: int) -> list[Row]:
    _adopt_orphans(True)
    try:
        samples, failures = interleaved(min(count, _ROUNDS), {peer: partial(_keep, workshop, peer) for peer in workshop.installed(*OCI)})
    finally:
        _adopt_orphans(False)
    return [Row(NAME, samples.get(NAME, {}), Aim(1024), "KiB", notes=failures)]

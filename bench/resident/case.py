"""Memory that a runtime keeps per idle container: PSS of every process that `create` and `start` leave behind, but for the program itself.

We adopt orphans meanwhile, so whatever stays is a descendant of ours, wherever it hides.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.measure import interleaved, timed
from bench.peers import OCI, Workshop
from bench.processes import adopting_orphans, descendants, pss_kib
from bench.table import Aim, Row

NAME = "resident per container"
_PROGRAM = ("sleep", "1000")
_ROUNDS = 5


def _is_program(pid: int) -> bool:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]) == _PROGRAM
    except (FileNotFoundError, ProcessLookupError):
        return False


def _stayed() -> list[int]:
    """What is there once the program runs: `start` may end before the program is in place."""
    while not any(map(_is_program, pids := list(descendants(os.getpid())))):
        time.sleep(0.001)
    return pids


def _keep(workshop: Workshop, peer: str) -> dict[str, float]:
    container = workshop.container(peer, *_PROGRAM)
    try:
        timed(container.command("create"))
        timed(container.command("start"))
        kib = sum(pss_kib(pid) for pid in _stayed() if not _is_program(pid))
    finally:
        workshop.remove(container)
        with suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass
    return {NAME: float(kib)}


def measure(workshop: Workshop, count: int) -> list[Row]:
    with adopting_orphans():
        samples, failures = interleaved(min(count, _ROUNDS), {peer: partial(_keep, workshop, peer) for peer in workshop.installed(*OCI)})
    return [Row(NAME, samples.get(NAME, {}), Aim(1024), "KiB", notes=failures)]

"""Processes that a runtime leaves behind: whoever they are, they are descendants of ours while we adopt orphans."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SET_CHILD_SUBREAPER = 36


def _set_subreaper(on: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def adopting_orphans() -> Iterator[None]:
    _set_subreaper(True)
    try:
        yield
    finally:
        _set_subreaper(False)


def descendants(pid: int) -> Iterator[int]:
    """Children of all of its threads, and theirs."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def pss_kib(pid: int) -> int:
    """Its memory, what it shares with others by shares; 0 of a zombie or one that is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0

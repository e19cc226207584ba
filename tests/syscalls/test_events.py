"""Event descriptors, timers and signals: epoll, eventfd, timerfd, signalfd, inotify, memfd, pidfd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "events").glob("*.c"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_as_on_the_host(program: Path, same: Callable[..., None], tmp_path: Path) -> None:
    same(program)

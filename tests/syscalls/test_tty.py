"""Terminals: pairs, the line discipline, sessions and job control say the same on the host and in the sentry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "tty"


@pytest.mark.parametrize("name", ["discipline.c", "pair.c", "session.c", "jobs.c", "raw.c", "modules.py"])
def test_same_as_on_the_host(same: Callable[..., None], name: str) -> None:
    same(PROGRAMS / name)


def test_slaves_are_given_away(same_in_container: Callable[[str], None]) -> None:
    same_in_container("tty/owner.c")

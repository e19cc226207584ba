"""Sockets and what moves data: the same on the host and in the sentry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "socket").glob("*.[cp]*"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_socket_program_behaves_as_on_the_host(program: Path, same: Callable[..., None]) -> None:
    same(program)

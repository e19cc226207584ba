"""Sealing the files that the engine is started with."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from casemate.isolation.engine_process import plan_memfd


def test_a_seal_is_tried_again_while_pages_are_referenced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says EBUSY when a page that was just written is still held by another processor (seen under load, in `create`)."""
    real, calls = fcntl.fcntl, 0

    def busy_at_first(fd: int, command: int, argument: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return int(real(fd, command, argument))

    monkeypatch.setattr(fcntl, "fcntl", busy_at_first)
    fd = plan_memfd({"version": 1})
    monkeypatch.undo()
    assert calls == 2
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    os.close(fd)

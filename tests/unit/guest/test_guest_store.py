"""Where guests' files are kept for a user whose home is unknown, or not to be written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate.errors import HostError
from casemate.guest import store


@pytest.fixture(autouse=True)
def _some_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CASEMATE_GUEST", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)


def test_without_home_it_is_where_a_login_would_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.directory() == "/nonexistent/.local/share/casemate/guest"
    monkeypatch.setenv("HOME", "/home/somebody")
    assert store.directory() == "/home/somebody/.local/share/casemate/guest"


def test_a_user_of_whom_nothing_is_known_has_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_001)
    assert store.directory() == "/nonexistent/.local/share/casemate/guest"


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(HostError, match="file/casemate/guest, cannot be made: Not a directory"):
        store.prepare()

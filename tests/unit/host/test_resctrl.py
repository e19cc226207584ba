"""Classes of service on a directory that looks like resctrl's."""

from __future__ import annotations

from pathlib import Path

import pytest

from casemate.errors import HostError
from casemate.host.resctrl import join, leave


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "schemata").write_text("")
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("schemata", "tasks"):
        (shared / name).write_text("")
    return tmp_path


def test_an_existing_class_is_joined_and_stays(root: Path) -> None:
    made = join({"closID": "shared", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50"}, "box", 42, root=str(root))
    assert made == ""
    assert (root / "shared/tasks").read_text() == "42\n"
    leave(made)
    assert (root / "shared").is_dir()


def test_a_missing_class_needs_schemata(root: Path) -> None:
    with pytest.raises(HostError, match="no class of service 'nope'"):
        join({"closID": "nope"}, "box", 42, root=str(root))


@pytest.mark.parametrize("name", ["../x", "info", ".."])
def test_names_that_lead_elsewhere(root: Path, name: str) -> None:
    with pytest.raises(HostError, match="cannot be a class"):
        join({"closID": name}, "box", 42, root=str(root))


def test_a_failure_removes_what_was_made(root: Path) -> None:
    with pytest.raises(HostError, match="schemata"):  # a plain directory has no such file
        join({"l3CacheSchema": "L3:0=f"}, "box", 42, root=str(root))
    assert not (root / "box").exists()


def test_a_host_without_it(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no resctrl"):
        join({}, "box", 42, root=str(tmp_path))

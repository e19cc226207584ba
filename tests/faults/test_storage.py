"""State that cannot be written, or is damaged."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clear_error import assert_clear

from bundle import Bundle, leftovers


@pytest.fixture
def small_disk(bundle: Bundle) -> Iterator[Path]:
    """The state root on a disk of 64 KiB."""
    bundle.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "state", str(bundle.state)], check=True)
    yield bundle.state
    subprocess.run(["umount", str(bundle.state)], check=True)


def test_full_disk_fails_one_create_and_harms_no_other(bundle: Bundle, small_disk: Path) -> None:
    first = bundle.id
    made = []
    for number in range(40):
        bundle.id = f"{first}-{number}"
        bundle.config["linux"]["cgroupsPath"] = f"/casemate-test/{bundle.id}"
        bundle.config["annotations"] = {"filler": "x" * 500}
        bundle.write()
        done = bundle.verb("create", "--bundle", str(bundle.directory), bundle.id)
        if done.returncode:
            break
        made.append(bundle.id)
    assert_clear(done, "No space left")
    assert leftovers(bundle.id, bundle.directory) == []
    assert len(made) > 1
    for name in made:
        bundle.verb("start", name, check=True)
        bundle.verb("delete", "--force", name, check=True)
        assert leftovers(name, bundle.directory) == []
    assert list(small_disk.iterdir()) == []
    assert bundle.run("true").returncode == 0


@pytest.mark.parametrize("file_kib", range(0, 64, 4))
def test_disk_that_is_full_to_some_page(bundle: Bundle, small_disk: Path, file_kib: int) -> None:
    (small_disk / "filler").write_bytes(b"x" * 1024 * file_kib)
    done = bundle.run("true")
    if done.returncode:
        assert_clear(done, "No space left")
    assert leftovers(bundle.id, bundle.directory) == []


def test_read_only_state_root(bundle: Bundle, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert_clear(bundle.run("true"), str(small_disk), "Read-only file system")


def test_state_root_that_is_no_directory(bundle: Bundle) -> None:
    bundle.state.write_text("")
    assert_clear(bundle.run("true"), str(bundle.state))
    bundle.state.unlink()
    bundle.state.symlink_to("/no/such/place")
    assert_clear(bundle.run("true"), str(bundle.state))
    bundle.state.unlink()


DAMAGE = {
    "empty": b"",
    "half": b'{"id": "x',
    "another type": b"[1, 2]",
    "wrong fields": b'{"pid": "x", "cgroup": 5, "bundle": null}',
    "binary": b"\xff\x00\xfe",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_state_is_no_crash(bundle: Bundle, damage: str) -> None:
    bundle.create("true")
    file = bundle.state / bundle.id / "state.json"
    whole = file.read_bytes()
    words: list[str]
    for words in (["state"], ["start"], ["exec"], ["kill"], ["ps"], ["pause"], ["delete"], ["delete", "--force"]):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(DAMAGE[damage])
        done = bundle.verb(*words, bundle.id, *(["true"] if words == ["exec"] else []))
        assert "Traceback" not in done.stderr
        assert "Traceback" not in bundle.verb("list").stderr
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(whole)  # what only the record knows can be ended again

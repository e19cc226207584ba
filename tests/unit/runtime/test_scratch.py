"""Directories of a container are gone when they were removed, whoever closes them."""

from __future__ import annotations

import os
from pathlib import Path

from casemate.runtime.scratch import close_all, remove_scratch


def make_trees(tmp_path: Path, count: int) -> list[str]:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    trees = []
    for number in range(count):
        tree = tmp_path / f"tree{number}"
        (tree / "inner" / "deeper").mkdir(parents=True)
        (tree / "inner" / "file").write_text("")
        (tree / "link").symlink_to(outside)
        trees.append(str(tree))
    return trees


def test_names_are_gone_before_what_was_held_is_closed(tmp_path: Path) -> None:
    trees = make_trees(tmp_path, 2)
    held: list[int] = []
    remove_scratch([*trees, str(tmp_path / "never-made")], held.extend)
    assert os.listdir(tmp_path) == ["outside"]
    assert len(held) == 6
    assert {os.fstat(fd).st_nlink for fd in held} == {0}
    assert (tmp_path / "outside" / "file").read_text() == "stays"
    close_all(held)


def test_many_directories_are_not_all_held(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    held: list[int] = []
    remove_scratch(make_trees(tmp_path, 40), held.extend)
    assert len(held) == 64
    close_all(held)
    assert len(os.listdir("/proc/self/fd")) == before

"""CVE-2021-30465, CVE-2019-19921, CVE-2023-27561: links in an image must not lead a mount, or a directory made for one, out of the root."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks import grant, mount_before_pivot, mount_points

from bundle import Bundle

_LIBC = ctypes.CDLL(None, use_errno=True)
_EXCHANGE = 2  # RENAME_EXCHANGE
_AT_FDCWD = -100


def links(canary: Path) -> dict[str, str]:
    depth = "../" * 30
    return {"absolute": str(canary), "parents": f"{depth}{canary}", "magic": f"/proc/self/root{canary}", "process": f"/proc/1/root{canary}"}


@contextmanager
def swapping(first: Path, second: Path) -> Iterator[list[int]]:
    """Exchanges two paths as fast as it can; gives the count."""
    end, count = threading.Event(), [0]

    def loop() -> None:
        while not end.is_set():
            assert _LIBC.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE) == 0
            count[0] += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield count
    finally:
        end.set()
        thread.join()


def outside(bundle: Bundle, points: set[str], before: set[str]) -> set[str]:
    return {point for point in points - before if not point.startswith(str(bundle.rootfs))}


def test_the_link_leads_out_without_the_defence(bundle: Bundle, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (bundle.rootfs / "data").symlink_to(outer)
    (bundle.rootfs / "data/made").mkdir()
    assert (outer / "made").exists()


@pytest.mark.parametrize("kind", ["absolute", "parents", "magic", "process"])
@pytest.mark.parametrize("fstype", ["tmpfs", "bind"])
@pytest.mark.parametrize("below", ["", "/made/deeper"])
def test_mount_target_is_a_link(bundle: Bundle, canary: Path, tmp_path: Path, kind: str, fstype: str, below: str) -> None:
    before = mount_points()
    (tmp_path / "volume").mkdir()
    (bundle.rootfs / "data").symlink_to(links(canary)[kind])
    bundle.config["mounts"].append({"destination": f"/data{below}", "type": fstype, "source": str(tmp_path / "volume"), "options": []})
    inside = mount_before_pivot(bundle, tmp_path / "mountinfo")
    bundle.run("true")
    assert outside(bundle, inside(), before) == set()
    assert mount_points() == before


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "dev/pts"])
@pytest.mark.parametrize("target", ["canary", "fake"])
def test_mount_points_of_the_system_are_links(bundle: Bundle, canary: Path, tmp_path: Path, name: str, target: str) -> None:
    before = mount_points()
    place = bundle.rootfs / name
    if place.exists():
        place.rmdir()
    (bundle.rootfs / "fake").mkdir()
    place.symlink_to(canary if target == "canary" else "/fake")
    inside = mount_before_pivot(bundle, tmp_path / "mountinfo")
    done = bundle.shell("stat -c '%t:%T' /proc/timer_list; echo h > /proc/sysrq-trigger && echo wrote")
    assert outside(bundle, inside(), before) == set()
    assert done.returncode != 0
    assert done.stdout in ("", "1:3\n")  # refused, or as masked as ever


def test_destination_with_parents(bundle: Bundle, canary: Path, tmp_path: Path) -> None:
    before = mount_points()
    inside = mount_before_pivot(bundle, tmp_path / "mountinfo")
    for destination in (f"/..{canary}/made", f"/tmp/../../../../..{canary}", f"../../../../../..{canary}/other"):
        bundle.config["mounts"] = [*bundle.config["mounts"][:7], {"destination": destination, "type": "tmpfs", "source": "tmpfs"}]
        bundle.run("true")
        assert outside(bundle, inside(), before) == set()


@pytest.mark.parametrize("fstype", ["tmpfs", "bind"])
def test_target_swapped_for_a_link_during_create(bundle: Bundle, canary: Path, tmp_path: Path, fstype: str) -> None:
    grant(bundle)
    before = mount_points()
    (tmp_path / "volume").mkdir()
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "swap").symlink_to(canary)
    destinations = [f"/real/{number}/deeper" for number in range(10)] + ["/real"]
    bundle.config["mounts"] += [{"destination": path, "type": fstype, "source": str(tmp_path / "volume")} for path in destinations]
    inside = mount_before_pivot(bundle, tmp_path / "mountinfo")
    outcomes = []
    with swapping(bundle.rootfs / "real", bundle.rootfs / "swap") as count:
        for _ in range(20):
            outcomes.append(bundle.run("true").returncode)
            assert outside(bundle, inside(), before) == set()
    assert count[0] > 1000
    assert mount_points() == before


def test_source_swapped_for_a_link_shows_nothing_more_than_named(bundle: Bundle, canary: Path, tmp_path: Path) -> None:
    """The volume is another container's, which makes it a link to the host's root; the mount is where the root says, not where the link leads."""
    (bundle.rootfs / "volume").symlink_to("/")
    bundle.config["mounts"].append({"destination": "/volume/tmp/host", "type": "bind", "source": str(canary), "options": ["rbind", "ro"]})
    done = bundle.shell("cat /tmp/host/file; echo x > /tmp/host/file")
    assert (done.stdout, done.returncode) == ("untouched", 1)
    assert (bundle.rootfs / "tmp/host").is_dir()

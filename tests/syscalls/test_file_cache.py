"""The remembered tree (vfs::cache): programs of a sandbox cannot tell it from the host's, and who changes the root from outside is seen soon."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable

_DOCKER = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP".split()
SEEN_WITHIN_S = 10


def _sentry(bundle: Bundle, script: str, uid: int = 0) -> str:
    """What the script prints in a container whose working directory is on the root's own mount."""
    (bundle.rootfs / "work").mkdir(exist_ok=True)
    os.chown(bundle.rootfs / "work", uid, uid)
    capabilities = [f"CAP_{name}" for name in _DOCKER] if uid == 0 else []
    process = bundle.config["process"]
    process |= {"args": ["/bin/sh", "-c", script], "cwd": "/work", "user": {"uid": uid, "gid": uid}}
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    bundle.write()
    done = bundle.verb("--isolation", "sentry", "run", "--bundle", str(bundle.directory), bundle.id)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _host(directory: Path, command: list[str], uid: int = 0) -> str:
    directory.mkdir()
    os.chown(directory, uid, uid)
    if uid:
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--no-new-privs", *command]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=True).stdout


def _program(compiled: Callable[[str], Path], tmp_path: Path, source: str = "cache/random_tree.c") -> tuple[Bundle, Path]:
    """A bundle with the program that changes a tree at random, and that program."""
    program = compiled(source)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)  # another user's program lies there
    bundle = Bundle(tmp_path / "bundle", "casemate")
    (bundle.rootfs / "prog").write_bytes(program.read_bytes())
    (bundle.rootfs / "prog").chmod(0o755)
    return bundle, program


@pytest.mark.parametrize(("seed", "uid"), [(1, 0), (2, 0), (3, 0), (4, 1000), (5, 1000)])
def test_random_changes_are_seen_from_all_sides_as_on_the_host(seed: int, uid: int, compiled: Callable[[str], Path], tmp_path: Path) -> None:
    bundle, program = _program(compiled, tmp_path)
    words = [str(seed), "1500"]
    assert _sentry(bundle, f"exec /prog {' '.join(words)}", uid) == _host(tmp_path / "host", [str(program), *words], uid)


@pytest.mark.parametrize(("seed", "uid", "is_tmpfs"), [(1, 0, False), (3, 1000, False), (5, 0, True), (6, 1000, True)])
def test_kept_answers_are_never_older_than_what_was_done_before(seed: int, uid: int, is_tmpfs: bool, compiled: Callable[[str], Path], tmp_path: Path) -> None:
    """Two processes, the second of them of that user."""
    bundle, program = _program(compiled, tmp_path, "cache/answers.c")
    if is_tmpfs:
        bundle.config["mounts"].append({"destination": "/work", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]})
    words = [str(seed), "200", str(uid)]
    # By absolute paths that the second process may walk: other runs of pytest close the directory of theirs to other users.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o755)
        expected = _host(Path(memory) / "host", [str(program), *words])
    assert _sentry(bundle, f"exec /prog {' '.join(words)}") == expected


def test_answers_are_kept_until_what_they_say_changes(compiled: Callable[[str], Path], tmp_path: Path) -> None:
    bundle, _ = _program(compiled, tmp_path, "cache/kept.c")
    changes = (("something else changed kept", "its mode changed ended"), ("a directory moved ended",), ("another root ended",), ("somebody else ended",))
    expected = [line for lines in changes for line in ("asked kept", *lines)]
    assert _sentry(bundle, "exec /prog").splitlines() == [*expected, "a child has none"]


@pytest.mark.parametrize(("seed", "uid"), [(6, 0), (7, 0), (8, 1000)])
def test_random_changes_in_a_tmpfs_of_the_container(seed: int, uid: int, compiled: Callable[[str], Path], tmp_path: Path) -> None:
    bundle, program = _program(compiled, tmp_path)
    bundle.config["mounts"].append({"destination": "/work", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", f"uid={uid}", f"gid={uid}"]})
    words = [str(seed), "1500"]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o755)
        expected = _host(Path(memory) / "host", [str(program), *words], uid)
    assert _sentry(bundle, f"exec /prog {' '.join(words)}", uid) == expected


@pytest.mark.parametrize(("way", "moves"), [("strictatime", ["moved"] * 3), ("relatime", ["moved", "as it was", "as it was"]), ("noatime", ["as it was"] * 3)])
def test_reads_move_access_times_as_the_mount_says(way: str, moves: list[str], compiled: Callable[[str], Path], tmp_path: Path) -> None:
    bundle, program = _program(compiled, tmp_path, "cache/access_time.c")
    bundle.config["mounts"].append({"destination": "/work", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", way]})
    (tmp_path / "memory").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", way, "tmpfs", tmp_path / "memory"], check=True)
    try:
        expected = _host(tmp_path / "memory/host", [str(program)])
    finally:
        subprocess.run(["umount", tmp_path / "memory"], check=True)
    assert expected.split("\n") == [*moves, "as it was", ""]
    assert _sentry(bundle, "exec /prog") == expected


def test_paths_that_lead_from_mount_to_mount(tmp_path: Path) -> None:
    """Links and `..` across the borders of remembered mounts, names that mount points hide, and a loop of links over two mounts."""
    bundle = Bundle(tmp_path / "bundle", "casemate")
    for at in ("/one", "/one/two"):
        bundle.config["mounts"].append({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]})
    script = """
    echo root > /work/file; echo one > /one/file; echo two > /one/two/file
    ln -s /one/two/../file /work/to_one; ln -s ../../work/file /one/two/to_root; ln -s /one/loop /work/loop; ln -s ../work/loop /one/loop
    cat /work/to_one /one/two/to_root /one/two/../two/../../work/to_one /one/two/../../one/two/file
    cd /one/two && cat ../file ../../work/file; cat /work/loop 2>&1 | sed 's/.*: //'
    for turn in 1 2; do ls /one/two/absent /one/absent 2>/dev/null || echo absent; touch /one/two/absent; rm /one/two/absent; done
    mv /one/file /one/moved && cat /one/moved; cat /one/file 2>/dev/null || echo gone; ln -s two /one/link; cat /one/link/file; stat -c %F /one/link/ /one/link
    """
    lines = _sentry(bundle, script).splitlines()
    loop = "Symbolic link loop" if "Symbolic link loop" in lines else "Too many levels of symbolic links"
    expected = ["one", "root", "one", "two", "one", "root", loop, "absent", "absent", "one", "gone", "two", "directory", "symbolic link"]
    assert lines == expected


def test_a_change_from_outside_is_seen_soon(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "bundle", "casemate")
    script = "cat /etc/there; cat /etc/later; echo > /etc/ready; until cat /etc/later; do :; done; until grep -q new /etc/there; do :; done; echo > /etc/seen"
    bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
    (bundle.rootfs / "etc/there").write_text("old\n")
    bundle.write()
    bundle.verb("--isolation", "sentry", "create", "--bundle", str(bundle.directory), bundle.id, check=True)
    try:
        bundle.verb("start", bundle.id, check=True)
        _appears(bundle.rootfs / "etc/ready")
        (bundle.rootfs / "etc/new").write_text("new\n")
        (bundle.rootfs / "etc/new").rename(bundle.rootfs / "etc/there")
        (bundle.rootfs / "etc/later").write_text("later\n")
        _appears(bundle.rootfs / "etc/seen")
    finally:
        bundle.verb("delete", "--force", bundle.id)


def _appears(path: Path) -> None:
    end = time.monotonic() + SEEN_WITHIN_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_more_names_than_are_remembered_are_all_found(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "bundle", "casemate")
    for directory in range(28):
        place = bundle.rootfs / "work" / f"d{directory}"
        place.mkdir(parents=True)
        for number in range(600):
            (place / f"n{number}").touch()
    # Twice, with names that are absent between: the second look comes after much was forgotten.
    script = "find . -type f -size +1 | wc -l; for d in d*; do ls $d/absent* $d/n1 $d/n599; done 2>/dev/null | wc -l; find . -type f -perm 644 | wc -l"
    bundle.rootfs.joinpath("bin/find").symlink_to("busybox")
    assert _sentry(bundle, script).split() == ["0", "56", str(28 * 600)]

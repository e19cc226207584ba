"""Images of directories: what is in one, when another is made, how many are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from casemate.errors import HostError, UsageError
from casemate.guest import images

LOOK = """
import json, os, sys
root, found = sys.argv[1], {}
for below, directories, names in os.walk(root):
    for name in [".", *directories, *names]:
        path = os.path.join(below, name)
        s = os.lstat(path)
        extra = os.readlink(path) if os.path.islink(path) else "" if not os.path.isfile(path) else open(path, "rb").read().hex()
        attributes = {key: os.getxattr(path, key, follow_symlinks=False).hex() for key in os.listxattr(path, follow_symlinks=False)}
        size = s.st_size if not os.path.isdir(path) else 0
        found[os.path.relpath(path, root)] = [s.st_mode, s.st_uid, s.st_gid, size, s.st_mtime_ns, s.st_rdev, s.st_nlink, extra, attributes]
print(json.dumps(found, sort_keys=True))
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path / "guest"))
    monkeypatch.setattr(images, "_found", {})
    path = tmp_path / "tree"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("content")
    return path


def make(tree: Path) -> Path:
    """As another start: one of today remembers what it was asked before."""
    images._found.clear()
    return Path(images.find_or_make(str(tree)))


def test_all_of_a_tree_is_in_its_image(tree: Path, tmp_path: Path) -> None:
    """Owners, modes, times, links of both kinds, devices, whiteouts, pipes, sockets' places, and attributes."""
    os.link(tree / "file", tree / "sub/other name")
    (tree / "sub/link").symlink_to("/nowhere")
    (tree / "sub/big").write_bytes(os.urandom(300_001))
    os.mknod(tree / "whiteout", 0o600 | 0o020000, os.makedev(0, 0))
    os.mknod(tree / "null", 0o666 | 0o020000, os.makedev(1, 3))
    os.mknod(tree / "disk", 0o640 | 0o060000, os.makedev(8, 17))
    os.mkfifo(tree / "pipe")
    os.chown(tree / "file", 100_000, 70_000)
    os.chmod(tree / "sub/big", 0o4755)
    os.chmod(tree / "sub", 0o1777)
    os.setxattr(tree / "file", "user.word", b"value")
    os.setxattr(tree / "sub/big", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.utime(tree / "pipe", ns=(1_000_000_001, 2_000_000_003))
    image = make(tree)
    expected = subprocess.run([sys.executable, "-c", LOOK, tree], capture_output=True, text=True, check=True).stdout
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    script = f'mount -t erofs -o ro,loop {image} {mounted} && exec {sys.executable} -c "$0" {mounted}'
    seen = subprocess.run(["unshare", "-m", "sh", "-c", script, LOOK], capture_output=True, text=True, check=True).stdout
    assert json.loads(seen) == json.loads(expected)
    assert image.stat().st_mode & 0o777 == 0o444
    assert image.parent.stat().st_mode & 0o777 == 0o700, "what only root may read in the tree is in the image"


def test_the_same_tree_has_one_image_and_any_change_makes_another(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(tree)
    made = first.stat().st_ino
    assert make(tree) == first
    assert first.stat().st_ino == made
    status = (tree / "file").stat()
    (tree / "file").write_text("CONTENT")  # of the same length
    os.utime(tree / "file", ns=(status.st_atime_ns, status.st_mtime_ns))
    second = make(tree)
    assert second != first
    (tree / "file").chmod(0o600)
    third = make(tree)
    (tree / "file").rename(tree / "renamed")
    fourth = make(tree)
    assert len({first, second, third, fourth}) == 4


def test_one_that_was_cut_off_is_made_anew(tree: Path) -> None:
    (tree / "big").write_bytes(bytes(100_000))
    image = make(tree)
    whole = image.stat().st_size
    os.truncate(image, 8192)
    assert make(tree) == image
    assert image.stat().st_size == whole


def test_only_the_last_used_few_are_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_KEPT", 2)
    made = []
    for number in range(4):
        (tree / "file").write_text(str(number))
        made.append(make(tree))
        os.utime(made[-1], (number + 1, number + 1))
    assert [path.exists() for path in made] == [False, False, True, True]
    monkeypatch.setattr(images, "_KEPT_BYTES", 1)
    (tree / "file").write_text("last")
    last = make(tree)
    assert sorted(last.parent.glob("*.erofs")) == [last]


def test_of_many_starts_one_makes_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = images._write

    def count(program: str, tree: str, name: str, path: str) -> None:
        written.append(name)
        write(program, tree, name, path)

    monkeypatch.setattr(images, "_write", count)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(images.find_or_make(str(tree)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(written), len(found), len(set(found))) == (1, 4, 1)


def test_what_cannot_be_an_image_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="the root of the host cannot be"):
        make(Path("/"))
    with pytest.raises(HostError, match=r"/dev/[a-z]+ is mounted there"):
        make(Path("/dev"))
    write = images._write

    def write_and_change(program: str, root: str, name: str, path: str) -> None:
        write(program, root, name, path)
        (tree / "file").write_text(name)

    with monkeypatch.context() as patched:
        patched.setattr(images, "_write", write_and_change)
        with pytest.raises(HostError, match="changes while an image of it is made"):
            make(tree)
    assert [path.name for path in (tree.parent / "guest/images").iterdir()] == [".lock"]
    monkeypatch.setattr(images, "_PATH", "/nonexistent")
    with pytest.raises(HostError, match=r"no mkfs.erofs \(Debian's package erofs-utils\)"):
        make(tree)


def test_what_killed_makers_left_goes(tree: Path) -> None:
    directory = tree.parent / "guest/images"
    directory.mkdir(parents=True)
    (directory / ".4194305.new").touch()  # above any pid
    assert make(tree).exists()
    assert sorted(name for name in os.listdir(directory) if name.startswith(".")) == [".lock"]


def test_an_image_can_be_mapped_whole(tree: Path) -> None:
    """Linux maps memory of devices in pieces of 2 MiB; one that describes its pages in more than a machine has for that is refused."""
    image = make(tree)
    assert image.stat().st_size % (2 << 20) == 0
    images.refuse_to_map(str(image))
    with image.open("rb+") as file:
        os.chmod(image, 0o644)
        file.truncate(images.MOST_MAPPED + (2 << 20))
    with pytest.raises(HostError, match="an image of 1026 MiB is not mapped"):
        images.refuse_to_map(str(image))


def test_a_disk_is_sparse_and_one_that_was_left_goes(tree: Path) -> None:
    left = tree.parent / "guest/images/.disk-4194305"  # above any pid
    left.parent.mkdir(parents=True)
    left.touch()
    disk = Path(images.make_disk(1 << 30, (5, 7)))
    status = disk.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777, status.st_size) == (5, 7, 0o600, 1 << 30)
    assert status.st_blocks * 512 < 8 << 20
    assert not left.exists()


@pytest.mark.parametrize(
    ("mode", "size"),
    [("", None), ("no", None), ("memory", 0), ("16M", 16 << 20), ("2GiB", 2 << 30), ("100000000", 100_000_000), ("memory+dax", 0), ("2G+dax", 2 << 30)],
)
def test_modes(mode: str, size: int | None) -> None:
    assert images.disk_size(mode) == size


@pytest.mark.parametrize("mode", ["yes", "1M", "-5G", "4P", "99999T", "G", "1 G", "no+dax", "+dax", "dax", "memory+dax+dax"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(UsageError, match="expected no, memory, or the size of a disk"):
        images.disk_size(mode)

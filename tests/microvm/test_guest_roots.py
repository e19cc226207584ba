"""Roots that are images: one file of the store for all guests of a directory, and a layer that ends with the guest."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE, Bundle, leftovers, make_rootfs
from casemate.guest import store

LOOK = "stat -c '%n %f %u %g %s %t %T %h %Y' /* /sub/* /bin/* | grep -v -E '^/(dev|proc|sys|tmp|etc|sub|bin|run|var) '"
WRITE = "echo new > /made; echo changed > /file; rm /sub/gone; mount | grep ' on / '; cat /made /file; ls /sub"


@pytest.fixture(params=["uml", "qemu"])
def hypervisor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CASEMATE_HYPERVISOR", str(request.param))
    return str(request.param)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = make_rootfs(tmp_path / "tree")
    (path / "sub").mkdir()
    (path / "sub/gone").touch()
    (path / "file").write_text("of the host\n")
    os.link(path / "file", path / "sub/hard")
    (path / "owned").touch()
    os.chown(path / "owned", 1234, 567)
    os.mknod(path / "device", 0o640 | 0o060000, os.makedev(8, 17))
    (path / "link").symlink_to("file")
    return path


def do(tmp_path: Path, rootfs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", "--rootfs", str(rootfs), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_guest_has_the_tree_as_it_is_and_a_layer_of_its_own(hypervisor: str, tmp_path: Path, rootfs: Path) -> None:
    """Under QEMU by itself. Without binds there is no server of files; a bind is the host's directory all the same."""
    asked = [] if hypervisor == "qemu" else ["--root-image", "memory"]
    seen = do(tmp_path, rootfs, *asked, "--", "sh", "-c", LOOK)
    assert (seen.returncode, seen.stderr) == (0, "")
    names = [line.split(" ")[0] for line in seen.stdout.splitlines()]
    assert {"/file", "/owned", "/link", "/device", "/sub/hard", "/sub/gone", "/bin/busybox"} <= set(names)
    for line in seen.stdout.splitlines():
        name, *found = line.split(" ")
        status = (rootfs / name[1:]).lstat()
        device = [f"{part(status.st_rdev):x}" for part in (os.major, os.minor)]
        size = status.st_size
        expected = [f"{status.st_mode:x}", str(status.st_uid), str(status.st_gid), str(size), *device, str(status.st_nlink), str(int(status.st_mtime))]
        assert found == expected, line
    (tmp_path / "bound").mkdir()
    done = do(tmp_path, rootfs, *asked, "--bind", f"{tmp_path}/bound:/bound", "--", "sh", "-c", f"{WRITE}; echo out > /bound/file")
    assert (done.returncode, done.stderr) == (0, "")
    mounted, *lines = done.stdout.splitlines()
    assert "lowerdir=/image" in mounted
    assert lines == ["new", "changed", "hard"]
    assert (rootfs / "file").read_text() == "of the host\n"
    assert (rootfs / "sub/gone").exists()
    assert not (rootfs / "made").exists()
    assert (tmp_path / "bound/file").read_text() == "out\n"
    # What somebody wants to see afterwards is written on the host.
    done = do(tmp_path, rootfs, "--diff", "--", "sh", "-c", "mount | grep ' on / '; echo new > /etc/made")
    assert "/image" not in done.stdout
    assert done.stderr == "A /etc/made\n"


def test_a_disk_holds_what_memory_would_not_and_ends_with_its_guest(hypervisor: str, tmp_path: Path, rootfs: Path) -> None:
    script = "dd if=/dev/zero of=/big bs=1M count=80 2>/dev/null && stat -c %s /big; dd if=/dev/zero of=/more bs=1M count=40 2>&1 | grep -o 'No space.*'"
    done = do(tmp_path, rootfs, "--root-image", "100M", "--memory", "64M", "--", "sh", "-c", script)
    assert (done.stdout, done.stderr) == (f"{80 << 20}\nNo space left on device\n", "")
    assert [name for name in os.listdir(f"{store.directory()}/images") if name == f".disk-{os.getpid()}"] == []


@pytest.fixture
def with_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store with the distribution's kernel only: one of ours may be there of some age, or not at all."""
    guest = tempfile.mkdtemp(dir="/var/tmp")
    os.chmod(guest, 0o755)
    os.mkdir(f"{guest}/kernels")
    os.symlink(os.path.realpath(f"{store.directory()}/kernels/cloud"), f"{guest}/kernels/cloud")
    monkeypatch.setenv("CASEMATE_GUEST", guest)
    monkeypatch.setenv("CASEMATE_HYPERVISOR", "qemu")
    yield
    shutil.rmtree(guest)


# Of 8 MiB that are read, none is in the guest's own page cache. Then root writes to the device by hand: what is mapped is the host's, and stays as it is.
MAPPED = """
cached() { while read name kib _; do case $name in Cached:) echo $kib;; esac; done < /proc/meminfo; }
before=$(cached); md5sum /big; echo grown $(($(cached) - before))
mknod /pmem0 b $(sed 's/:/ /' /sys/block/pmem0/dev) && dd if=/dev/zero of=/pmem0 bs=4k count=16 conv=fsync 2> /dev/null; echo wrote
"""


@pytest.mark.parametrize("template", ["0", "1"])
@pytest.mark.usefixtures("with_cloud")
def test_a_mapped_image_is_no_memory_of_the_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    monkeypatch.setenv("CASEMATE_TEMPLATE", template)
    monkeypatch.setattr("bundle.TIMEOUT_S", 120)  # nothing of this store was made before: image, archive, template
    content = os.urandom(8 << 20)
    bundle = Bundle(tmp_path, "casemate")
    (bundle.rootfs / "big").write_bytes(content)
    bundle.config["annotations"] = {"dev.casemate.isolation": "microvm", "dev.casemate.root-image": "memory+dax"}
    bundle.config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind] = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]
    try:
        done = bundle.shell(MAPPED)
        assert done.stderr == ""
        digest, grown, wrote = done.stdout.splitlines()
        assert digest.split() == [hashlib.md5(content, usedforsecurity=False).hexdigest(), "/big"]
        assert int(grown.split()[1]) < 1024
        assert wrote == "wrote"
        (image,) = Path(f"{store.directory()}/images").glob("*.erofs")
        assert subprocess.run(["fsck.erofs", image], capture_output=True, check=False).returncode == 0
    finally:
        bundle.close()
    assert leftovers(bundle.id, tmp_path) == []


def test_who_cannot_map_an_image_says_so(tmp_path: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_HYPERVISOR", "uml")
    done = do(tmp_path, rootfs, "--root-image", "memory+dax", "--", "true")
    assert done.returncode == 125
    assert "machines of the hypervisor 'uml' map no images (name another with --hypervisor, or leave out +dax)" in done.stderr


@pytest.fixture
def bundle(tmp_path: Path, hypervisor: str) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {"dev.casemate.isolation": "microvm", "dev.casemate.root-image": "memory"}
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def test_a_container_has_an_image_only_if_its_annotation_says_so(bundle: Bundle) -> None:
    """What an OCI container writes to its root is in the bundle, unless somebody asked for something else."""
    bundle.create("sh", "-c", "echo first > /made; while :; do sleep 0.1; done")
    bundle.verb("start", bundle.id, check=True)
    shown = bundle.verb("exec", bundle.id, "sh", "-c", "mount | grep ' on / '; cat /made; echo x > /etc/passwd && id", check=True).stdout
    assert "lowerdir=/image" in shown
    assert "first" in shown
    assert not (bundle.rootfs / "made").exists()
    bundle.verb("delete", "--force", bundle.id, check=True)
    bundle.config["root"]["readonly"] = True
    done = bundle.shell("touch /made; mount | grep ' on / '")
    assert "Read-only file system" in done.stderr
    assert "ro," in done.stdout
    bundle.config["root"]["readonly"] = False
    del bundle.config["annotations"]["dev.casemate.root-image"]
    assert bundle.shell("echo first > /made").returncode == 0
    assert (bundle.rootfs / "made").read_text() == "first\n"


def test_what_cannot_be_had_is_refused_or_told_once(tmp_path: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name it is an error; by itself the guest has the host's directory, and that is said once."""
    monkeypatch.setenv("CASEMATE_HYPERVISOR", "qemu")
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    (rootfs / "mounted").mkdir()
    kernels = os.path.realpath(f"{store.directory()}/kernels")
    guest = tempfile.mkdtemp(dir="/var/tmp")  # not below pytest's directory, which a hypervisor's ids may not enter
    try:
        os.chmod(guest, 0o755)
        os.symlink(kernels, f"{guest}/kernels")
        monkeypatch.setenv("CASEMATE_GUEST", guest)
        subprocess.run(["mount", "-t", "tmpfs", "none", rootfs / "mounted"], check=True)
        done = do(tmp_path, rootfs, "--root-image", "memory", "--", "true")
        assert (done.returncode, f"{rootfs}/mounted is mounted there" in done.stderr) == (125, True)
        first, second = (do(tmp_path, rootfs, "--", "sh", "-c", "mount | grep ' on / '") for _ in range(2))
        for words, said in (
            (["--root-image", "memory", "--diff"], "goes not with --diff"),
            (["--root-image", "3"], "expected no, memory, or the size of a disk"),
        ):
            done = do(tmp_path, rootfs, *words, "--", "true")
            assert (done.returncode, said in done.stderr) == (125, True), done.stderr
    finally:
        subprocess.run(["umount", rootfs / "mounted"], check=True)
        shutil.rmtree(guest)
    assert (first.returncode, second.returncode, "/image" in first.stdout) == (0, 0, False)
    assert "the guest's root is the host's directory, not an image of it" in first.stderr
    assert "the guest's root" not in second.stderr

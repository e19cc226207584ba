"""Binds that come over the agent's stream (CASEMATE_FILES=protocol): what a program sees of them, and what reaches the host."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bundle import CASEMATE

SCRIPT = r"""
import errno, fcntl, hashlib, json, mmap, os, socket, stat
seen, here = {}, "/rw/"
def refused(call, *words):
    try:
        call(*words)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def put(name, data, how="wb"):
    with open(here + name, how) as file:
        file.write(data)
def get(name):
    with open(here + name, "rb") as file:
        return file.read()
seen["mounted"] = [line.split()[2] for line in open("/proc/mounts") if line.split()[1] == "/rw"]
seen["from the host"] = get("of the host").decode()
big = get("big")
seen["big"] = [len(big), hashlib.sha256(big).hexdigest()]
put("written", big[:700_001]); put("written", b"end", "ab")
seen["names"] = len(os.listdir(here + "many")), sorted(os.listdir(here + "many"))[::500]
put("one", b"1"); put("two", b"2")
os.rename(here + "one", here + "two"); os.mkdir(here + "dir", 0o750); os.rename(here + "two", here + "dir/three")
seen["renamed"] = get("dir/three").decode(), refused(os.stat, here + "one"), refused(os.rmdir, here + "dir"), refused(os.rename, here + "dir", here + "dir/x")
os.link(here + "dir/three", here + "hard"); seen["links"] = os.stat(here + "hard").st_nlink
os.symlink("/etc/passwd", here + "out"); os.symlink("dir/three", here + "in")
seen["symlinks"] = os.readlink(here + "out"), os.path.samefile(here + "out", "/etc/passwd"), get("in").decode()
seen["of the host's symlink"] = refused(open, here + "leads out")
os.chmod(here + "hard", 0o640); os.utime(here + "hard", ns=(1_000_000_007, 2_000_000_009))
status = os.stat(here + "hard"); seen["status"] = oct(status.st_mode), status.st_mtime_ns, status.st_uid
with open(here + "of the host", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as map:
    seen["mapped"] = map[:7].decode()
with open(here + "mapped", "w+b") as file:
    file.truncate(10_000)
    with mmap.mmap(file.fileno(), 0) as map:
        map[5000:5005] = b"mmap!"
    file.seek(0); seen["after mapping"] = file.read()[4999:5006].decode("latin-1")
file = open(here + "gone", "w+b"); file.write(b"still"); file.flush(); os.unlink(here + "gone")
file.seek(0); seen["deleted"] = file.read().decode(), os.fstat(file.fileno()).st_nlink, refused(os.stat, here + "gone")
seen["exclusive"] = refused(os.open, here + "hard", os.O_CREAT | os.O_EXCL)
with open(here + "sparse", "w+b") as file:
    file.seek(1 << 20); file.write(b"x"); os.fsync(file.fileno()); os.posix_fallocate(file.fileno(), 0, 4096)
    fcntl.flock(file, fcntl.LOCK_EX); fcntl.lockf(file, fcntl.LOCK_UN)
os.truncate(here + "sparse", 5000)
os.setxattr(here + "hard", "user.a", b"value"); seen["attributes"] = os.listxattr(here + "hard"), os.getxattr(here + "hard", "user.a").decode()
seen["other attributes"] = refused(os.setxattr, here + "hard", "trusted.a", b"")
os.mkfifo(here + "pipe"); listener = socket.socket(socket.AF_UNIX); listener.bind(here + "socket"); listener.listen()
client = socket.socket(socket.AF_UNIX); client.connect(here + "socket"); seen["socket"] = "connected"
seen["space"] = os.statvfs(here).f_blocks > 0
os.makedirs(here + "a/b/c"); os.removedirs(here + "a/b/c")
here = "/ro/"
changes = (open, "/ro/new", "w"), (open, "/ro/file", "a"), (os.unlink, "/ro/file"), (os.chmod, "/ro/file", 0)
seen["read only"] = [refused(*change) for change in changes] + [get("file").decode()]
print(json.dumps(seen))
"""


@pytest.fixture(params=["uml", "qemu"], autouse=True)
def hypervisor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CASEMATE_HYPERVISOR", str(request.param))
    monkeypatch.setenv("CASEMATE_FILES", "protocol")
    return str(request.param)


def do(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_a_program_does_to_binds_what_it_does_to_files(tmp_path: Path) -> None:
    """All in one guest, whose root comes that way too: `--diff` sees what was written to it."""
    rw, ro = tmp_path / "rw", tmp_path / "ro"
    (rw / "many").mkdir(parents=True)
    ro.mkdir()
    (ro / "file").write_text("kept")
    (ro / "file").chmod(0o666)
    (rw / "of the host").write_text("content")
    (rw / "leads out").symlink_to("/../../../../etc/hostname-of-nobody")
    big = os.urandom(1_500_000)
    (rw / "big").write_bytes(big)
    for number in range(1500):
        (rw / f"many/{number:04}").touch()
    words = ["--diff", "--bind", f"{rw}:/rw", "--bind", f"{ro}:/ro:ro", "--", "/usr/bin/python3", "-I", "-S", "-c", SCRIPT]
    done = do(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "mounted": ["fuse"],
        "from the host": "content",
        "big": [len(big), hashlib.sha256(big).hexdigest()],
        "names": [1500, ["0000", "0500", "1000"]],
        "renamed": ["1", "ENOENT", "ENOTEMPTY", "EINVAL"],
        "links": 2,
        "symlinks": ["/etc/passwd", True, "1"],
        "of the host's symlink": "ENOENT",
        "status": ["0o100640", 2_000_000_009, 0],
        "mapped": "content",
        "after mapping": "\0mmap!\0",
        "deleted": ["still", 0, "ENOENT"],
        "exclusive": "EEXIST",
        "attributes": [["user.a"], "value"],
        "other attributes": "EPERM",
        "socket": "connected",
        "space": True,
        "read only": ["EROFS", "EROFS", "EROFS", "EROFS", "kept"],
    }
    assert (rw / "written").read_bytes() == big[:700_001] + b"end"
    assert (rw / "mapped").read_bytes()[4999:5006] == b"\0mmap!\0"
    assert (rw / "dir/three").read_text() == "1"
    status = (rw / "hard").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_nlink, status.st_uid) == (0o640, 2_000_000_009, 2, rw.stat().st_uid)
    assert os.getxattr(rw / "hard", "user.a") == b"value"
    assert stat.S_IMODE((rw / "dir").stat().st_mode) == 0o750
    assert (rw / "sparse").stat().st_size == 5000
    assert stat.S_ISFIFO((rw / "pipe").stat().st_mode)
    assert not (rw / "gone").exists()
    assert os.listdir(ro) == ["file"]
    assert done.stderr == "A /ro\nA /rw\n"


def test_what_the_host_writes_is_seen_and_the_end_loses_nothing(tmp_path: Path) -> None:
    """A file that appears while the guest waits; and one that is written last of all, of other users too."""
    (tmp_path / "rw").mkdir(mode=0o777)
    (tmp_path / "rw").chmod(0o777)
    script = "while ! [ -e /rw/go ]; do sleep 0.05; done; cat /rw/go; head -c 300000 /dev/zero > /rw/last"
    words = [
        CASEMATE,
        "--root",
        str(tmp_path / "state"),
        "do",
        "--isolation=microvm",
        "--bind",
        f"{tmp_path}/rw:/rw",
        "--",
        "sh",
        "-c",
        f"echo ready; {script}",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        (tmp_path / "new").write_text("from outside\n")
        (tmp_path / "new").rename(tmp_path / "rw/go")
        assert process.stdout.readline() == "from outside\n"
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "rw/last").stat().st_size == 300_000


# `casemate` on a host that has no server of virtio-fs.
WITHOUT_SERVER = (
    "import sys; from casemate.hypervisor import virtiofsd; virtiofsd._PROGRAMS = (); from casemate.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def test_without_a_server_of_virtio_fs_they_come_over_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASEMATE_FILES")
    (tmp_path / "file").write_text("from the host")
    words = ["do", "--isolation=microvm", "--bind", f"{tmp_path}/file:/file:ro", "--", "sh", "-c", "cat /file; grep -c ' /file fuse ' /proc/mounts"]
    command = [sys.executable, "-c", WITHOUT_SERVER, "--root", str(tmp_path / "state"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (0, "from the host1\n"), done.stderr

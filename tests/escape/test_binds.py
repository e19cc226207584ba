"""Writable binds of a sandbox that root started: the owner's rights there, and nowhere else, and no way to the owner's rights outside."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from bundle import CASEMATE, TIMEOUT_S

OWNER = (4242, 4343)
OTHER = 4444
NO_IDMAP = "its file system cannot map ids"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: anybody else is the sandbox's user themselves")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir(mode=0o700)
    os.chown(path, *OWNER)
    if NO_IDMAP in do(path, "true").stderr:
        pytest.skip(f"{path}: {NO_IDMAP}")
    return path


def do(source: Path, script: str, *options: str, end: str = "") -> subprocess.CompletedProcess[str]:
    command = [CASEMATE, "do", "--bind", f"{source}:/src{end}", *options, "--", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def owner_of(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


@pytest.mark.parametrize("user", ["0", "nobody", "1000:100"])
def test_what_is_made_belongs_to_the_owner(shared: Path, user: str) -> None:
    done = do(shared, 'mkdir new && echo x > new/file && stat -c %u:%g . new/file && echo "$(id -u):$(id -g)"', "--workdir", "/src", "--user", user)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.split())) == 1
    assert owner_of(shared / "new") == owner_of(shared / "new/file") == OWNER


def test_a_directory_of_root(tmp_path: Path) -> None:
    assert do(tmp_path, "echo x > /src/file").returncode == 0
    assert owner_of(tmp_path / "file") == (0, 0)


def test_files_of_other_owners_are_as_they_were(shared: Path) -> None:
    for name, mode in (("closed", 0o600), ("open", 0o666)):
        (shared / name).write_text("theirs\n")
        (shared / name).chmod(mode)
        os.chown(shared / name, OTHER, OTHER)
    done = do(shared, "cat /src/closed; echo x >> /src/closed; chmod 777 /src/closed; chown 0:0 /src/closed; echo mine >> /src/open")
    assert done.stdout == ""
    assert (shared / "closed").read_text() == "theirs\n"
    assert (shared / "closed").stat().st_mode & 0o777 == 0o600
    assert owner_of(shared / "closed") == owner_of(shared / "open") == (OTHER, OTHER)
    assert (shared / "open").read_text() == "theirs\nmine\n"


def test_the_owner_s_files_elsewhere_are_not_its_own(shared: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    os.chown(secret, *OWNER)
    done = do(shared, "cat /read-only; ln -s /read-only /src/link; cat /src/link; ln /read-only /src/hard; cat /src/hard", "--bind", f"{secret}:/read-only:ro")
    assert done.stdout == ""
    assert do(shared, "echo x > /etc/hostname; echo x > /etc/passwd").returncode != 0


def test_a_read_only_bind_gives_no_rights(shared: Path) -> None:
    (shared / "file").write_text("secret")
    (shared / "file").chmod(0o600)
    os.chown(shared / "file", *OWNER)
    assert do(shared, "cat /src/file", end=":ro").stdout == ""
    assert do(shared, "cat /src/file").stdout == "secret"


@pytest.mark.parametrize(
    "attempt",
    [
        "chmod u+s program",
        "chmod g+s program",
        "chmod 6755 program",
        "install -m 4755 program other",
        "python3 -c 'import os; os.open(\"other\", os.O_CREAT | os.O_RDWR, 0o4755)'",
        "python3 -c 'import os; os.mknod(\"other\", 0o104755)'",
        "python3 -c 'import ctypes; call = ctypes.CDLL(None).syscall; call(85, b\"other\", 0o4755)'",  # creat
        "python3 -c 'import ctypes; call = ctypes.CDLL(None).syscall; call(452, -100, b\"program\", 0o4755, 0)'",  # fchmodat2
        # openat2: {flags O_CREAT | O_RDWR, mode, resolve}
        "python3 -c 'import ctypes; call = ctypes.CDLL(None).syscall; call(437, -100, b\"other\", (ctypes.c_uint64 * 3)(0o102, 0o4755, 0), 24)'",
    ],
)
def test_no_set_user_id_program_of_the_owner_is_left(shared: Path, attempt: str) -> None:
    """Anybody on the host could run it, with the owner's rights."""
    do(shared, f"umask 0; cp /bin/true program; {attempt}", "--workdir", "/src")
    assert (shared / "program").exists()
    assert [path.name for path in shared.iterdir() if path.stat().st_mode & 0o6000] == []


def test_set_user_id_bits_are_free_without_such_a_bind(shared: Path) -> None:
    done = subprocess.run([CASEMATE, "do", "--", "sh", "-c", "cp /bin/true /tmp/x; chmod u+s /tmp/x"], timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0


def test_a_socket_is_not_given_away(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        done = do(path, "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/src\")'")
    assert "PermissionError" in done.stderr


def test_a_file_system_without_id_maps_is_said_once() -> None:
    done = do(Path("/proc"), "ls -d /src/self")
    assert (done.returncode, done.stdout) == (0, "/src/self\n")
    assert [line.count(NO_IDMAP) for line in done.stderr.splitlines()] == [1]

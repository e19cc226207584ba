"""`casemate do`: exit codes, limits, what is changed and what is kept, in the foreground and in the background."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE, TIMEOUT_S


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A state root; whatever a test did, no sandbox and no layer is left in it."""
    path = tmp_path / "state"
    yield path
    left = [name for name in os.listdir(path) if not name.startswith((".collected", ".next-ids"))] if path.exists() else []
    assert left == []


def do(root: Path, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CASEMATE, "--root", str(root), "do", *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **more)  # type: ignore[call-overload, no-any-return]


def verb(root: Path, *words: str) -> str:
    return subprocess.run([CASEMATE, "--root", str(root), *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "sh -c 'kill -TERM $$'"], 143),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
    ],
)
def test_exit_codes(root: Path, words: list[str], code: int) -> None:
    assert do(root, "--", *words).returncode == code


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--memory", "lots", "--", "true"],
        ["--user", "no-such-user", "--", "true"],
        ["--network", "lan", "--", "true"],
        ["--bind", "/nowhere:/x", "--", "true"],
        ["--bind", "/tmp:relative", "--", "true"],
        ["--isolation", "moat", "--", "true"],
        ["--rootfs", "/nowhere", "--", "true"],
        ["--detach", "--tty", "--", "true"],
        ["--no-such-option", "--", "true"],
    ],
)
def test_own_failures_are_125_and_one_line(root: Path, words: list[str]) -> None:
    done = do(root, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (125, 1), done.stderr


def test_time_limit(root: Path) -> None:
    done = do(root, "--timeout", "0.3", "--", "sh", "-c", "trap '' TERM; sleep 100")
    assert done.returncode == 124
    assert "--timeout" in done.stderr


def test_memory_limit_is_told(root: Path) -> None:
    done = do(root, "--memory", "32M", "--", "python3", "-c", "bytearray(10**9)")
    assert done.returncode == 137
    assert "out of memory" in done.stderr


def test_process_limit(root: Path) -> None:
    assert do(root, "--pids", "5", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait").returncode != 0


def test_changes_are_listed_and_copied_out(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = do(
        root, "--diff", "--commit", str(out), "--", "sh", "-c", "echo new > /usr/new; echo x >> /etc/hostname; rm /etc/passwd; mkdir /made; ln -s x /made/link"
    )
    assert {"A /usr/new", "D /etc/passwd", "A /made", "A /made/link"} <= set(done.stderr.splitlines())
    assert (out / "usr/new").read_text() == "new\n"
    assert os.readlink(out / "made/link") == "x"
    assert Path("/etc/passwd").exists()
    assert not Path("/usr/new").exists()


def test_the_layer_can_be_kept(root: Path) -> None:
    done = do(root, "--keep", "--", "sh", "-c", "echo kept > /usr/kept")
    layer = Path(done.stderr.split()[-1])
    assert (layer / "usr/kept").read_text() == "kept\n"
    shutil.rmtree(layer)


def test_binds_are_writable_unless_said(root: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    assert do(root, "--bind", f"{shared}:/data", "--", "sh", "-c", "echo x > /data/file").returncode == 0
    assert (shared / "file").read_text() == "x\n"
    assert do(root, "--bind", f"{shared}:/data:ro", "--", "sh", "-c", "echo x > /data/other").returncode != 0


def test_environment_directory_and_user(root: Path) -> None:
    done = do(
        root,
        "--env",
        "A=b",
        "--workdir",
        "/usr",
        "--user",
        "7:8",
        "--",
        "sh",
        "-c",
        "echo $A $(pwd) $(id -u):$(id -g) $SECRET",
        env={**os.environ, "SECRET": "s"},
    )
    assert done.stdout == "b /usr 7:8\n"


def test_no_network_unless_asked(root: Path) -> None:
    names = "import socket; print(sorted(name for _, name in socket.if_nameindex()))"
    assert do(root, "--", "python3", "-c", names).stdout == "['lo']\n"
    host = sorted(name for _, name in socket.if_nameindex())
    assert do(root, "--network", "host", "--", "python3", "-c", names).stdout == f"{host}\n"


def test_abstract_sockets_of_the_host_are_out_of_reach(root: Path) -> None:
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 12):
        pytest.skip("landlock scopes need Linux 6.12")
    name = f"\0casemate-{uuid.uuid4().hex}"
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        assert subprocess.run(["python3", "-c", connect], check=False).returncode == 0
        assert "PermissionError" in do(root, "--network", "host", "--", "python3", "-c", connect).stderr


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([CASEMATE, "--root", str(root), "do", *words], stdout=subprocess.PIPE, text=True)


def test_a_signal_reaches_a_program_that_handles_it(root: Path) -> None:
    with start(root, "--", "sh", "-c", "trap 'echo caught; exit 3' TERM; echo begun; while :; do sleep 0.05; done") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.terminate()
        assert (running.stdout.read(), running.wait(TIMEOUT_S)) == ("caught\n", 3)


def test_a_killed_caller_takes_its_program_along(root: Path) -> None:
    mark = f"mark{uuid.uuid4().hex}"
    with start(root, "--", "sh", "-c", f"echo begun; sleep 100; : {mark}") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.kill()
    deadline = time.monotonic() + TIMEOUT_S
    while mark in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.replace(f"; : {mark}'", ""):
        assert time.monotonic() < deadline
    (root / ".collected").unlink(missing_ok=True)
    assert do(root, "--", "true").returncode == 0  # collects what the killed one left


def test_in_the_background(root: Path) -> None:
    name = f"box{uuid.uuid4().hex[:8]}"
    done = do(root, "--detach", "--name", name, "--", "sh", "-c", "echo out; echo err >&2; exec sleep 100")
    assert done.stdout == f"{name}\n"
    assert json.loads(verb(root, "ps", "--json"))[0]["id"] == name
    assert verb(root, "exec", name, "echo", "inside") == "inside\n"
    deadline = time.monotonic() + TIMEOUT_S
    while verb(root, "logs", name) != "out\nerr\n":
        assert time.monotonic() < deadline
    verb(root, "delete", "--force", name)

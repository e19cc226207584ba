"""`casemate.run`: arguments that are wrong, and users by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate import Sandbox, SandboxError, run


@pytest.mark.parametrize(("user", "printed"), [("root", "0:0"), ("nobody", "65534:65534"), ("nobody:daemon", "65534:1"), ("7", "7:7"), ("7:8", "7:8")])
def test_a_user_by_name_or_number(user: str, printed: str, state_root: str) -> None:
    assert run("echo $(id -u):$(id -g)", user=user, state_root=state_root).stdout == f"{printed}\n"


def test_names_are_those_of_the_root_that_is_given(tmp_path: Path, state_root: str) -> None:
    from bundle import make_rootfs

    root = make_rootfs(tmp_path / "rootfs")
    assert run(["id", "-u"], user="user", rootfs=str(root), state_root=state_root).stdout == "1000\n"
    with pytest.raises(SandboxError, match="nobody"):
        run(["id"], user="nobody", rootfs=str(root), state_root=state_root)


@pytest.mark.parametrize(("user", "said"), [("no-such-user", "no-such-user"), ("99999999", "only 0 to 65535"), ("root:", "USER:GROUP")])
def test_a_user_that_is_none_is_a_sandbox_error(user: str, said: str, state_root: str) -> None:
    with pytest.raises(SandboxError, match=said):
        run("true", user=user, state_root=state_root)


def test_a_memory_limit_that_no_program_starts_with_is_named(state_root: str) -> None:
    for start in (lambda: run("true", memory="1K", state_root=state_root), lambda: Sandbox.create(memory="1K", state_root=state_root)):
        with pytest.raises(SandboxError, match="limit of 1024 bytes is too small"):
            start()
    assert [name for name in os.listdir(state_root) if name.startswith((".layer-", "run-"))] == []


def test_what_it_took_is_told(state_root: str, isolation: str) -> None:
    code = "import time; kept = b'x' * (50 << 20)\nwhile time.process_time() < 0.2: pass"
    result = run(["python3", "-c", code], isolation=isolation, state_root=state_root)
    assert result.cpu_s >= 0.2
    assert 50 << 20 <= result.max_memory < 2 << 30


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: anybody else is the sandbox's user themselves")
def test_a_writable_bind_belongs_to_its_owner(tmp_path: Path, state_root: str) -> None:
    os.chown(tmp_path, 4242, 4343)
    binds = [(str(tmp_path), "/src")]
    run("echo x > /src/one", binds=binds, state_root=state_root, check=True)
    with Sandbox.create(binds=binds, state_root=state_root) as sandbox:
        sandbox.commands.run("echo x > /src/two")
        sandbox.files.write("/src/three", "x")
    with Sandbox.create(binds=binds, user="nobody", state_root=state_root) as sandbox:
        sandbox.commands.run("echo x > /src/four")
    made = ["one", "two", "three", "four"]
    assert {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()} == dict.fromkeys(made, (4242, 4343))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: anybody else is the sandbox's user themselves")
def test_a_file_system_without_id_maps_is_a_warning(state_root: str) -> None:
    with pytest.warns(RuntimeWarning, match="bind /src: its file system cannot map ids"):
        assert run("ls -d /src/self", binds=[("/proc", "/src")], state_root=state_root).stdout == "/src/self\n"


def test_a_user_that_a_sandbox_cannot_have_is_told_at_once(state_root: str) -> None:
    with pytest.raises(SandboxError, match="no user id 99999999"):
        Sandbox.create(user="99999999", state_root=state_root)


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "inf"}, {"memory": "1e30"}, {"cpus": "2"}, {"pids": "9"}, {"cpus": float("nan")}, {"cpus": float("inf")}, {"cpus": 1e-9}, {"pids": 10**12},
        {"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"cwd": "a\0b"}, {"cmd": ["a\0"]}, {"cmd": []},
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_named(wrong: dict[str, object], state_root: str) -> None:
    arguments: dict[str, object] = {"cmd": ["true"], "state_root": state_root, **wrong}
    with pytest.raises(SandboxError, match=rf"{next(iter(wrong))}: "):
        run(**arguments)  # type: ignore[arg-type]


def test_a_relative_state_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("echo x", state_root="state").stdout == "x\n"
    with Sandbox.create(state_root="state") as sandbox, Sandbox.connect(sandbox.sandbox_id, state_root="state") as again:
        assert again.commands.run("echo y").stdout == "y\n"


def test_a_forked_child_runs_too_while_the_last_ones_directories_are_closed(state_root: str, isolation: str) -> None:
    for _ in range(1 if isolation == "microvm" else 3):
        run("true", state_root=state_root)
        child = os.fork()
        if child == 0:
            os._exit(run("exit 7", state_root=state_root).exit_code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

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

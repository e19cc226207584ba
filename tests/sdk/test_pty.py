"""`pty`: a program on a terminal that is driven and resized."""

from __future__ import annotations

import threading

import pytest

from casemate import CommandExit, PtySize, Sandbox, SandboxError


def test_a_shell_is_driven_and_resized(sandbox: Sandbox) -> None:
    seen = bytearray()
    grew = threading.Condition()

    def hear(data: bytes) -> None:
        with grew:
            seen.extend(data)
            grew.notify()

    def wait_for(text: bytes) -> None:
        with grew:
            assert grew.wait_for(lambda: text in seen, 10), bytes(seen)

    handle = sandbox.pty.create(PtySize(rows=30, cols=100), hear)
    sandbox.pty.send_stdin(handle.pid, "tty; stty size\n")
    wait_for(b"/dev/pts/0")
    wait_for(b"30 100")
    sandbox.pty.resize(handle.pid, PtySize(rows=10, cols=20))
    sandbox.pty.send_stdin(handle.pid, b"stty size; exit 5\n")
    wait_for(b"10 20")
    with pytest.raises(CommandExit) as caught:
        handle.wait(10)
    assert caught.value.exit_code == 5


def test_kill_ends_it(sandbox: Sandbox) -> None:
    handle = sandbox.pty.create(cmd=["sleep", "100"])
    assert sandbox.pty.kill(handle.pid) is True
    with pytest.raises(CommandExit):
        handle.wait(10)


def test_a_program_without_a_terminal_is_not_resized(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("sleep 100", True)
    with pytest.raises(SandboxError, match="no terminal"):
        sandbox.pty.resize(handle.pid, PtySize(1, 1))
    with pytest.raises(SandboxError, match="no terminal"):
        sandbox.pty.send_stdin(handle.pid, b"x")
    handle.kill()

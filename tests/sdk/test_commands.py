"""`commands`: results, errors that say what happened, streams, users, background."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from casemate import CommandExit, CommandTimeout, OutOfMemory, Sandbox, SandboxError
from casemate.isolation.engine_process import engine_path


def test_output_and_exit_code(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)


def test_words_are_not_a_shells(sandbox: Sandbox) -> None:
    assert sandbox.commands.run(["echo", "$HOME", "a b"]).stdout == "$HOME a b\n"


def test_a_failure_raises_with_all_that_is_known(sandbox: Sandbox) -> None:
    with pytest.raises(CommandExit) as caught:
        sandbox.commands.run("echo so far; echo why >&2; exit 7")
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (7, "so far\n", "why\n")


def test_a_signal_gives_128_plus_n(sandbox: Sandbox) -> None:
    with pytest.raises(CommandExit) as caught:
        sandbox.commands.run("kill -TERM $$")
    assert caught.value.exit_code == 143


@pytest.mark.parametrize(("cmd", "code"), [(["no-such-program"], 127), (["/etc"], 126), (["/etc/passwd"], 126)])
def test_programs_that_cannot_run(sandbox: Sandbox, cmd: list[str], code: int) -> None:
    with pytest.raises(CommandExit) as caught:
        sandbox.commands.run(cmd)
    assert caught.value.exit_code == code


def test_timeout_ends_the_whole_session(sandbox: Sandbox) -> None:
    with pytest.raises(CommandTimeout) as caught:
        sandbox.commands.run("echo begun; sleep 100 & sleep 100", timeout=0.3)
    assert caught.value.stdout == "begun\n"
    # One that was killed is listed until somebody reaps it.
    sandbox.commands.run("while cat /proc/[0-9]*/comm 2>/dev/null | grep -q sleep; do :; done", timeout=10)


def test_out_of_memory_is_told(sandbox: Sandbox) -> None:
    with pytest.raises(OutOfMemory):
        sandbox.commands.run(["python3", "-c", "x = bytearray(10**9)"])
    assert sandbox.commands.run("echo alive").stdout == "alive\n"


def test_environment_and_directory(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("echo $FRUIT $COLOUR; pwd", envs={"COLOUR": "red"}, cwd="/usr")
    assert result.stdout == "pear red\n/usr\n"


def test_user_by_number(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("id -u; id -g", user="1000:100").stdout == "1000\n100\n"


def test_unknown_user(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="no user"):
        sandbox.commands.run("id", user="nemo")


@pytest.mark.parametrize("user", [None, "1000"])
def test_programs_have_no_privileges(sandbox: Sandbox, user: str | None, isolation: str) -> None:
    status = sandbox.commands.run("grep -E '^(Cap|NoNewPrivs|Seccomp):?' /proc/self/status", user=user).stdout
    assert {line.split(":")[1].strip() for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs:\t1" in status
    # A sentry shows the filters that programs installed; its own is none of theirs.
    assert f"Seccomp:\t{0 if isolation == 'sentry' else 2}" in status


def test_the_agent_s_program_cannot_be_changed(sandbox: Sandbox) -> None:
    # It is the engine's own file where the sandbox's ids cannot write that (CVE-2019-5736).
    before = Path(engine_path()).read_bytes()
    for path in ("/proc/1/exe", engine_path()):
        for user in (None, "1000"):
            with pytest.raises(CommandExit):
                sandbox.commands.run(["sh", "-c", f"echo x > {path}"], user=user)
    assert Path(engine_path()).read_bytes() == before


def test_the_agent_cannot_be_looked_into(sandbox: Sandbox) -> None:
    for what in ("mem", "environ", "exe", "fd/0"):
        with pytest.raises(CommandExit):
            sandbox.commands.run(["cat", f"/proc/1/{what}"])
    sandbox.commands.run("kill -KILL 1; kill -TERM 1; true")
    assert sandbox.is_running()


def test_streams_are_told_as_they_come(sandbox: Sandbox) -> None:
    pieces: list[str] = []
    sandbox.commands.run("printf 'gr\\303'; printf '\\274n\\n'; echo e >&2", on_stdout=pieces.append, on_stderr=pieces.append)
    assert "".join(pieces).replace("e\n", "", 1) == "grün\n"


def test_much_output_is_cut_and_said(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("head -c 3000000 /dev/zero", max_output=1000)
    assert (len(result.stdout_bytes), result.truncated) == (1000, True)


def test_input_is_fed(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("wc -c", stdin=b"x" * 200_000).stdout.strip() == "200000"


def test_no_input_is_the_end_of_file(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("cat").stdout == ""


def test_background_with_input(sandbox: Sandbox) -> None:
    heard = threading.Event()
    handle = sandbox.commands.run("read a; echo got $a; read b", True, stdin=True, on_stdout=lambda _: heard.set())
    assert [process.pid for process in sandbox.commands.list()] == [handle.pid]
    handle.send_stdin("apple\n")
    assert heard.wait(10)
    assert (handle.stdout, handle.exit_code) == ("got apple\n", None)
    handle.close_stdin()
    with pytest.raises(CommandExit) as caught:
        handle.wait(10)
    assert caught.value.exit_code == 1


def test_background_output_without_a_reader_does_not_stop_it(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("head -c 1000000 /dev/zero", True)
    assert len(handle.wait(10).stdout_bytes) == 1_000_000


def test_wait_with_a_timeout_leaves_it_running(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("sleep 100", True)
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    assert handle.kill() is True
    with pytest.raises(CommandExit):
        handle.wait(10)
    assert handle.kill() is False


def test_a_program_that_stays_behind_is_not_waited_for(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("(sleep 100; echo late) & echo early", timeout=10)
    assert result.stdout == "early\n"
    sandbox.commands.run("pkill sleep")


def test_another_connection_can_wait_and_kill(sandbox: Sandbox, state_root: str) -> None:
    handle = sandbox.commands.run("sleep 100", True)
    other = Sandbox.connect(sandbox.sandbox_id, state_root=state_root)
    followed = other.commands.connect(handle.pid)
    assert other.commands.kill(handle.pid) is True
    with pytest.raises(CommandExit) as caught:
        followed.wait(10)
    assert caught.value.exit_code == 137
    assert other.commands.kill(handle.pid) is False
    other.close()


def test_a_callback_that_raises_ends_the_command(sandbox: Sandbox) -> None:
    def refuse(_: str) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        sandbox.commands.run("echo x; sleep 100", on_stdout=refuse)
    deadline = time.monotonic() + 10
    while sandbox.commands.list():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("cmd", ["a\0b", [], ["x", "\0"]])
def test_what_no_program_can_be_is_refused(sandbox: Sandbox, cmd: object) -> None:
    with pytest.raises(SandboxError):
        sandbox.commands.run(cmd)  # type: ignore[call-overload]


def test_a_user_whose_id_the_sandbox_has_not(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="99999999"):
        sandbox.commands.run("true", user="99999999")

"""Starts a program in a sandbox: what both SDKs' `commands.run` and `pty.create` begin with. Blocking, for a millisecond."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from casemate.errors import CommandExit, CommandTimeout, FileNotFound, KilledByPolicy, NotPermitted, OutOfMemory, SandboxError, WireError
from casemate.sdk import _replies
from casemate.sdk._pump import AgentEnd, Pump, Stream
from casemate.sdk._session import Session
from casemate.sdk.types import CommandResult, PtySize

_SIGSYS, _SIGKILL = 31, 9
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_NO_SUCH_ID = ("setresuid:", "setresgid:", "setgroups:")  # the agent's words, where the kernel does not know an id
Text = Callable[[str], object]


@dataclass(kw_only=True)
class Request:
    """A program to start. `stdin`: bytes to feed, True for a pipe, False for nothing."""

    cmd: str | Sequence[str]
    envs: Mapping[str, str] | None = None
    cwd: str | None = None
    user: str | None = None
    stdin: bytes | str | bool = False
    on_stdout: Text | None = None
    on_stderr: Text | None = None
    max_output: int = 16 << 20

    def args(self) -> list[str]:
        """A text is a shell's. Raises SandboxError for what no system call could take."""
        words = ["/bin/sh", "-c", self.cmd] if isinstance(self.cmd, str) else list(self.cmd)
        if not words:
            raise SandboxError("cmd: expected a text or a list of words, got nothing")
        return [_replies.argument(word, "cmd") for word in words]


class Started:
    """A program that runs: its pump, and what is written to it (-1: nothing can be)."""

    def __init__(self, pid: int, pump: Pump, stdin_fd: int) -> None:
        self.pid = pid
        self.pump = pump
        self.stdin_fd = stdin_fd


def start_command(session: Session, request: Request) -> Started:
    """Raises CommandExit (127: no such program, 126: not executable), SandboxError, SandboxNotFound."""
    child_fds: list[int] = []
    ours: list[int] = []
    try:
        stdin, stdin_fd = _stdin(request.stdin, ours)
        child_fds.append(stdin)
        for _ in range(2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            ours.append(reader)
            child_fds.append(writer)
        pid, source, received = _exec(session, request, tuple(child_fds), None)
        for fd in received:
            os.close(fd)
        reader_out, reader_err = ours[-2:]
        pump = Pump(source, Stream(reader_out, request.on_stdout), Stream(reader_err, request.on_stderr), max_output=request.max_output)
        return Started(pid, pump, stdin_fd)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in child_fds:
            os.close(fd)


def start_pty(session: Session, request: Request, size: PtySize, on_data: Callable[[bytes], object] | None) -> Started:
    """As `start_command`, on a terminal."""
    pid, source, received = _exec(session, request, (), {"columns": size.cols & 0xFFFF, "rows": size.rows & 0xFFFF})
    try:
        if len(received) != 1 or not stat.S_ISCHR(os.fstat(received[0]).st_mode):
            raise WireError("the agent sent no terminal")
        pump = Pump(source, Stream(received[0], None, on_data), None, max_output=0 if on_data else request.max_output)
        return Started(pid, pump, os.dup(received[0]))
    except BaseException:
        source.close()
        for fd in received:
            os.close(fd)
        raise


def follow_program(session: Session, pid: int) -> Started:
    """A program that another connection started: only its end can be followed. Raises SandboxError."""
    channel, _, received = session.agent.open_request("wait", (), pid=pid)
    for fd in received:
        os.close(fd)
    return Started(pid, Pump(AgentEnd(channel, pid), None, None), -1)


def _exec(session: Session, request: Request, fds: tuple[int, ...], pty: dict[str, int] | None) -> tuple[int, AgentEnd, list[int]]:
    arguments: dict[str, object] = {
        "args": request.args(),
        "env": _replies.environment({**session.envs, **(request.envs or {})}),
        "cwd": session.path(request.cwd) if request.cwd else session.cwd,
        "user": request.user or session.user,
    }
    if pty:
        arguments["pty"] = pty
    try:
        channel, answer, received = session.agent.open_request("exec", fds, **arguments)
    except SandboxError as error:
        if str(error).startswith(_NO_SUCH_ID):
            raise SandboxError(f"user: the sandbox has not all ids of {arguments['user']!r}", error.errno) from None
        if not isinstance(error, FileNotFound | NotPermitted):
            raise
        code = _NOT_FOUND if isinstance(error, FileNotFound) else _NOT_EXECUTABLE
        raise CommandExit(str(error), exit_code=code, stderr=str(error)) from None
    pid = _replies.integer(answer, "pid")
    return pid, AgentEnd(channel, pid), received


def _stdin(given: bytes | str | bool, ours: list[int]) -> tuple[int, int]:
    """(the program's end, our end or -1)."""
    if given is True:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        ours.insert(0, writer)
        return reader, writer
    if given is False:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1
    data = given.encode() if isinstance(given, str) else given
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd, -1


def signal_program(session: Session, pid: int, signal: int = _SIGKILL) -> bool:
    """Signals a program's whole session group; False if it has ended."""
    try:
        session.agent.request("signal", pid=pid, signal=signal, group=True)
    except (SandboxError, WireError):
        return False
    return True


def conclude(session: Session, result: CommandResult, timed_out: float | None) -> CommandResult:
    """The result, or the exception that says what happened."""
    output = {"stdout": result.stdout, "stderr": result.stderr}
    if timed_out is not None:
        raise CommandTimeout(f"command was ended after {timed_out:g} s", exit_code=124, **output)
    if result.exit_code == 0:
        return result
    if result.exit_code == 128 + _SIGKILL and session.new_oom_kills():
        raise OutOfMemory("command was killed: the sandbox's memory limit was reached", exit_code=result.exit_code, **output)
    if result.signal == _SIGSYS:
        raise KilledByPolicy("command was killed by the sandbox's seccomp policy", exit_code=result.exit_code, **output)
    return result.check()

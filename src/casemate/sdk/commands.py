"""`sandbox.commands`: programs in a sandbox."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, overload

from casemate.errors import SandboxError
from casemate.sdk import _reactor, _replies, _starting
from casemate.sdk._pump import MAX_OUTPUT, Pump
from casemate.sdk._session import Session
from casemate.sdk.types import CommandResult, ProcessInfo

Text = Callable[[str], object]
DEFAULT_TIMEOUT_S = 60.0


class CommandHandle:
    """A program that runs in the background. `stdout` and `stderr` are what it has printed so far."""

    def __init__(self, session: Session, started: _starting.Started, timeout: float | None) -> None:
        self._session = session
        self._pump = started.pump
        self._stdin_fd = started.stdin_fd
        self._done = threading.Event()
        self._problem: BaseException | None = None
        self._timed_out: float | None = None
        self._timer: threading.Timer | None = None
        self.pid = started.pid
        if timeout:
            self._timer = threading.Timer(timeout, self._expire, (timeout,))
            self._timer.daemon = True
            self._timer.start()
        _reactor.follow(self._pump, self._finish)

    def _expire(self, timeout: float) -> None:
        self._timed_out = timeout
        self.kill()

    def _finish(self, problem: BaseException | None) -> None:
        self._problem = problem
        if self._timer:
            self._timer.cancel()
        self._done.set()

    @property
    def stdout(self) -> str:
        return self._pump.output()[0].decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self._pump.output()[1].decode("utf-8", "replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._pump.end.status.shell_code if self._pump.end else None

    def wait(self, timeout: float | None = None) -> CommandResult:
        """Waits for the end. Raises CommandExit, CommandTimeout, OutOfMemory, KilledByPolicy; TimeoutError if it still runs after `timeout` seconds."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"command {self.pid} still runs after {timeout:g} s")
        self.close_stdin()
        if self._problem:
            raise self._problem
        return _starting.conclude(self._session, self._pump.result(), self._timed_out)

    def kill(self) -> bool:
        """SIGKILL to it and to what it started in its session; False if it had ended."""
        return self._pump.end is None and _starting.signal_program(self._session, self.pid)

    def send_stdin(self, data: str | bytes) -> None:
        """Writes to its standard input (`stdin=True` at the start). Raises SandboxError if there is none, or it was closed."""
        write_all(self._stdin_fd, data)

    def close_stdin(self) -> None:
        """The end of its standard input."""
        fd, self._stdin_fd = self._stdin_fd, -1
        if fd >= 0:
            os.close(fd)

    def disconnect(self) -> None:
        """Stops following it; it goes on, and what it prints from now on is an error to it."""
        _reactor.forget(self._pump)
        self._pump.close()
        self.close_stdin()


class Commands:
    """Starts, lists and ends programs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @overload
    def run(
        self, cmd: str | Sequence[str], background: Literal[False] = False, *, envs: Mapping[str, str] | None = None, user: str | None = None,
        cwd: str | None = None, on_stdout: Text | None = None, on_stderr: Text | None = None, stdin: bytes | str | bool = False,
        timeout: float | None = DEFAULT_TIMEOUT_S, max_output: int = MAX_OUTPUT,
    ) -> CommandResult: ...  # fmt: skip

    @overload
    def run(
        self, cmd: str | Sequence[str], background: Literal[True], *, envs: Mapping[str, str] | None = None, user: str | None = None,
        cwd: str | None = None, on_stdout: Text | None = None, on_stderr: Text | None = None, stdin: bytes | str | bool = False,
        timeout: float | None = DEFAULT_TIMEOUT_S, max_output: int = MAX_OUTPUT,
    ) -> CommandHandle: ...  # fmt: skip

    def run(
        self, cmd: str | Sequence[str], background: bool = False, *, envs: Mapping[str, str] | None = None, user: str | None = None,
        cwd: str | None = None, on_stdout: Text | None = None, on_stderr: Text | None = None, stdin: bytes | str | bool = False,
        timeout: float | None = DEFAULT_TIMEOUT_S, max_output: int = MAX_OUTPUT,
    ) -> CommandResult | CommandHandle:  # fmt: skip
        """Runs a command and waits for it, or with `background` returns its handle.

        cmd: a text for the sandbox's /bin/sh, or a list of words.   envs: besides the sandbox's.   user: name, "uid" or "uid:gid" of the sandbox.
        cwd: relative to the sandbox's working directory.   on_stdout, on_stderr: called with each piece of text (in the background: on a thread of ours).
        stdin: bytes or text to feed; True for a pipe to `send_stdin` (background only).   timeout: seconds, None for no limit.
        max_output: bytes of each output that are kept (callbacks hear all).

        Raises CommandExit (not 0), CommandTimeout, OutOfMemory, KilledByPolicy: each with exit_code, stdout and stderr; SandboxNotFound once the sandbox ended.
        """
        if stdin is True and not background:
            raise SandboxError("stdin=True needs background=True: nobody could write while run waits")
        request = _starting.Request(cmd=cmd, envs=envs, cwd=cwd, user=user, stdin=stdin, on_stdout=on_stdout, on_stderr=on_stderr, max_output=max_output)
        started = _starting.start_command(self._session, request)
        if background:
            return CommandHandle(self._session, started, timeout)
        expired = self._wait(started.pump, started.pid, timeout)
        return _starting.conclude(self._session, started.pump.result(), timeout if expired else None)

    def _wait(self, pump: Pump, pid: int, timeout: float | None) -> bool:
        """Pumps until the end; whether the program had to be killed for its timeout."""
        deadline = time.monotonic() + timeout if timeout else None
        expired = False
        try:
            while pump.end is None:
                ready = _poll(pump, None if expired else deadline)
                for fd in ready:
                    pump.ready(fd)
                if not ready and not expired:
                    expired = True
                    _starting.signal_program(self._session, pid)
        except BaseException:
            _starting.signal_program(self._session, pid)
            pump.close()
            raise
        return expired

    def connect(self, pid: int, timeout: float | None = None) -> CommandHandle:
        """A handle for a program that some other handle started: to wait for it or kill it. Its output stays with who started it."""
        return CommandHandle(self._session, _starting.follow_program(self._session, pid), timeout)

    def list(self) -> list[ProcessInfo]:
        """The programs that were started here and still run."""
        answer = self._session.agent.request("processes")
        return [_replies.process(value) for value in _replies.sequence(answer, "processes")]

    def kill(self, pid: int) -> bool:
        """SIGKILL to a program and what it started in its session; False if there is none such."""
        return _starting.signal_program(self._session, pid)


def write_all(fd: int, data: str | bytes) -> None:
    """Writes to a program's input. Raises SandboxError where it reads no more."""
    rest = memoryview(data.encode() if isinstance(data, str) else data)
    try:
        while rest:
            if fd < 0:
                raise SandboxError("the program has no standard input that is open: start it with stdin=True")
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:  # a terminal's master does not block
                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                poll.poll()
    except OSError as error:
        raise SandboxError(f"standard input: {error.strerror}", error.errno or 0) from None


def _poll(pump: Pump, deadline: float | None) -> list[int]:
    poll = select.poll()
    for fd in pump.fds():
        poll.register(fd, select.POLLIN)
    timeout = None if deadline is None else max(0, deadline - time.monotonic()) * 1000
    return [fd for fd, _ in poll.poll(timeout)]

"""`sandbox.commands` for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, overload

from casemate.sdk import _starting
from casemate.sdk._pump import MAX_OUTPUT
from casemate.sdk._session import Session
from casemate.sdk.commands import DEFAULT_TIMEOUT_S, Commands, write_all
from casemate.sdk.types import CommandResult, ProcessInfo

Text = Callable[[str], object]


class AsyncCommandHandle:
    """A program that runs; the event loop that started it follows it."""

    def __init__(self, session: Session, started: _starting.Started, timeout: float | None) -> None:
        self._session = session
        self._pump = started.pump
        self._stdin_fd = started.stdin_fd
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._watched: set[int] = set()
        self._timed_out: float | None = None
        self._timer = self._loop.call_later(timeout, self._expire, timeout) if timeout else None
        self.pid = started.pid
        self._watch()

    def _watch(self) -> None:
        wanted = set(self._pump.fds())
        for fd in self._watched - wanted:
            self._loop.remove_reader(fd)
        for fd in wanted - self._watched:
            self._loop.add_reader(fd, self._ready, fd)
        self._watched = wanted

    def _ready(self, fd: int) -> None:
        # The loop must forget a descriptor before its number can be used again.
        self._loop.remove_reader(fd)
        self._watched.discard(fd)
        try:
            self._pump.ready(fd)
        except BaseException as error:
            self._stop(error)
            return
        if self._pump.end is not None:
            self._stop(None)
        else:
            self._watch()

    def _stop(self, problem: BaseException | None) -> None:
        for fd in self._watched:
            self._loop.remove_reader(fd)
        self._watched = set()
        if self._timer:
            self._timer.cancel()
        if problem is not None:
            self._pump.close()
        if not self._done.done():
            if problem is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(problem)

    def _expire(self, timeout: float) -> None:
        self._timed_out = timeout
        self._loop.run_in_executor(None, _starting.signal_program, self._session, self.pid)

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

    async def wait(self) -> CommandResult:
        """Waits for the end. Raises CommandExit, CommandTimeout, OutOfMemory, KilledByPolicy. Cancelling it leaves the program running."""
        await asyncio.shield(self._done)
        self.close_stdin()
        return _starting.conclude(self._session, self._pump.result(), self._timed_out)

    async def kill(self) -> bool:
        """SIGKILL to it and to what it started in its session; False if it had ended."""
        return self._pump.end is None and await asyncio.to_thread(_starting.signal_program, self._session, self.pid)

    async def send_stdin(self, data: str | bytes) -> None:
        """Writes to its standard input (`stdin=True` at the start), or its terminal."""
        await asyncio.to_thread(write_all, self._stdin_fd, data)

    def close_stdin(self) -> None:
        """The end of its standard input."""
        fd, self._stdin_fd = self._stdin_fd, -1
        if fd >= 0:
            os.close(fd)

    def disconnect(self) -> None:
        """Stops following it; it goes on."""
        self._stop(ConnectionAbortedError("disconnected"))
        self._done.exception()  # taken, so that asyncio does not warn
        self.close_stdin()


class AsyncCommands:
    """Starts, lists and ends programs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._commands = Commands(session)

    @overload
    async def run(
        self, cmd: str | Sequence[str], background: Literal[False] = False, *, envs: Mapping[str, str] | None = None, user: str | None = None,
        cwd: str | None = None, on_stdout: Text | None = None, on_stderr: Text | None = None, stdin: bytes | str | bool = False,
        timeout: float | None = DEFAULT_TIMEOUT_S, max_output: int = MAX_OUTPUT,
    ) -> CommandResult: ...  # fmt: skip

    @overload
    async def run(
        self, cmd: str | Sequence[str], background: Literal[True], *, envs: Mapping[str, str] | None = None, user: str | None = None,
        cwd: str | None = None, on_stdout: Text | None = None, on_stderr: Text | None = None, stdin: bytes | str | bool = False,
        timeout: float | None = DEFAULT_TIMEOUT_S, max_output: int = MAX_OUTPUT,
    ) -> AsyncCommandHandle: ...  # fmt: skip

    async def run(
        self, cmd: str | Sequence[str], background: bool = False, *, envs: Mapping[str, str] | None = None, user: str | None = None,
        cwd: str | None = None, on_stdout: Text | None = None, on_stderr: Text | None = None, stdin: bytes | str | bool = False,
        timeout: float | None = DEFAULT_TIMEOUT_S, max_output: int = MAX_OUTPUT,
    ) -> CommandResult | AsyncCommandHandle:  # fmt: skip
        """As `Sandbox.commands.run`; callbacks are called on the event loop. A cancelled run kills its program."""
        request = _starting.Request(cmd=cmd, envs=envs, cwd=cwd, user=user, stdin=stdin, on_stdout=on_stdout, on_stderr=on_stderr, max_output=max_output)
        started = await asyncio.to_thread(_starting.start_command, self._session, request)
        handle = AsyncCommandHandle(self._session, started, timeout)
        if background:
            return handle
        try:
            return await handle.wait()
        except asyncio.CancelledError:
            await handle.kill()
            raise

    async def connect(self, pid: int, timeout: float | None = None) -> AsyncCommandHandle:
        """A handle for a program that some other handle started: to wait for it or kill it."""
        return AsyncCommandHandle(self._session, await asyncio.to_thread(_starting.follow_program, self._session, pid), timeout)

    async def list(self) -> list[ProcessInfo]:
        """The programs that were started here and still run."""
        return await asyncio.to_thread(self._commands.list)

    async def kill(self, pid: int) -> bool:
        """SIGKILL to a program and what it started in its session; False if there is none such."""
        return await asyncio.to_thread(self._commands.kill, pid)

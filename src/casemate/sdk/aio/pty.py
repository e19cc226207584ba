"""`sandbox.pty` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from casemate.errors import SandboxError
from casemate.sdk import _starting
from casemate.sdk._session import Session
from casemate.sdk.aio.commands import AsyncCommandHandle
from casemate.sdk.commands import DEFAULT_TIMEOUT_S
from casemate.sdk.pty import DEFAULT_SIZE, SHELL, Pty
from casemate.sdk.types import PtySize


class AsyncPty:
    """As `Pty`, awaited."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pty = Pty(session)
        self._handles: dict[int, AsyncCommandHandle] = {}

    async def create(
        self, size: PtySize = DEFAULT_SIZE, on_data: Callable[[bytes], object] | None = None, *, cmd: Sequence[str] = SHELL,
        envs: Mapping[str, str] | None = None, user: str | None = None, cwd: str | None = None, timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> AsyncCommandHandle:  # fmt: skip
        """Starts a shell, or `cmd`, on a terminal of its own. `on_data` is called with bytes, on the event loop."""
        request = _starting.Request(cmd=cmd, envs={"TERM": "xterm", **(envs or {})}, cwd=cwd, user=user)
        handle = AsyncCommandHandle(self._session, await asyncio.to_thread(_starting.start_pty, self._session, request, size, on_data), timeout)
        self._handles = {pid: old for pid, old in self._handles.items() if old.exit_code is None} | {handle.pid: handle}
        return handle

    async def send_stdin(self, pid: int, data: bytes | str) -> None:
        """Types into the terminal."""
        handle = self._handles.get(pid)
        if handle is None:
            raise SandboxError(f"no terminal of program {pid} is open here")
        await handle.send_stdin(data)

    async def resize(self, pid: int, size: PtySize) -> None:
        """Changes the terminal's size."""
        await asyncio.to_thread(self._pty.resize, pid, size)

    async def kill(self, pid: int) -> bool:
        """SIGKILL to the program and its session; False if it had ended."""
        return await asyncio.to_thread(self._pty.kill, pid)

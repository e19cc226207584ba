"""`sandbox.pty`: programs on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from casemate.errors import SandboxError
from casemate.sdk import _starting
from casemate.sdk._session import Session
from casemate.sdk.commands import DEFAULT_TIMEOUT_S, CommandHandle
from casemate.sdk.types import PtySize

SHELL = ("/bin/sh", "-i")
DEFAULT_SIZE = PtySize(24, 80)


class Pty:
    """Starts and drives programs on terminals. What they print goes to `on_data`, or is kept as the handle's `stdout`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._handles: dict[int, CommandHandle] = {}

    def create(
        self, size: PtySize = DEFAULT_SIZE, on_data: Callable[[bytes], object] | None = None, *, cmd: Sequence[str] = SHELL,
        envs: Mapping[str, str] | None = None, user: str | None = None, cwd: str | None = None, timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> CommandHandle:  # fmt: skip
        """Starts a shell, or `cmd`, on a terminal of its own. `on_data` is called with bytes, on a thread of ours. Raises as `commands.run`."""
        request = _starting.Request(cmd=cmd, envs={"TERM": "xterm", **(envs or {})}, cwd=cwd, user=user)
        handle = CommandHandle(self._session, _starting.start_pty(self._session, request, size, on_data), timeout)
        self._handles = {pid: old for pid, old in self._handles.items() if old.exit_code is None} | {handle.pid: handle}
        return handle

    def send_stdin(self, pid: int, data: bytes | str) -> None:
        """Types into the terminal. Raises SandboxError if this object has not started `pid`."""
        handle = self._handles.get(pid)
        if handle is None:
            raise SandboxError(f"no terminal of program {pid} is open here")
        handle.send_stdin(data)

    def resize(self, pid: int, size: PtySize) -> None:
        """Changes the terminal's size; its programs hear of it by SIGWINCH. Raises SandboxError."""
        self._session.agent.request("resize", pid=pid, columns=size.cols & 0xFFFF, rows=size.rows & 0xFFFF)

    def kill(self, pid: int) -> bool:
        """SIGKILL to the program and its session; False if it had ended."""
        return _starting.signal_program(self._session, pid)

"""Files and watches that a sandbox's agent keeps for a connection: for sandboxes with a kernel of their own, whose descriptors are of no use outside."""

from __future__ import annotations

import os
from socket import socket

from casemate import wire
from casemate.errors import SandboxNotFound
from casemate.sdk import _replies
from casemate.sdk._session import Session

_CHUNK = 512 << 10  # what the agent reads at once; a frame holds twice as much


class KeptFile:
    """An open file of the sandbox, with the part of a raw file's interface that `Files` uses. A context."""

    def __init__(self, session: Session, path: str, flags: int, *, mode: int, parents: bool) -> None:
        self._session = session
        self._channel, _, received = session.agent.open_request("open", (), path=path, flags=flags, mode=mode, parents=parents, keep=True)
        close_all(received)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        return binary(self._session.agent.ask(self._channel, "read", count=min(size, _CHUNK)))

    def write(self, data: memoryview) -> int:
        """How many bytes were written: at least one."""
        return _replies.integer(self._session.agent.ask(self._channel, "write", bytes=bytes(data[:_CHUNK])), "count")

    def __enter__(self) -> KeptFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


class KeptWatch:
    """A watch's events. `fileno` is readable when there may be some."""

    def __init__(self, session: Session, path: str, *, recursive: bool) -> None:
        self._session = session
        self._channel: socket
        self._channel, self.answer, received = session.agent.open_request("watch", (), path=path, recursive=recursive, keep=True)
        close_all(received)

    def fileno(self) -> int:
        return self._channel.fileno()

    def read(self) -> bytes:
        """Events as inotify(7) has them; none for now: empty."""
        wire.send(self._channel, {"request": "changes"})
        return binary(self._answer())

    def add(self, path: str) -> int:
        """Watches a further directory; returns its number in events. Raises SandboxError."""
        wire.send(self._channel, {"request": "watch_more", "path": path})
        pair = _replies.sequence(self._answer(), "directories")[0]
        return pair[0] if isinstance(pair, list) and pair and isinstance(pair[0], int) else -1

    def close(self) -> None:
        self._channel.close()

    def _answer(self) -> _replies.Message:
        while True:
            message, received = wire.receive(self._channel)
            close_all(received)
            if message is None:
                raise SandboxNotFound(f"sandbox {self._session.sandbox_id!r} has ended")
            if message.get("event") != "changed":  # else: said while nobody asked
                return _replies.check(message)


def binary(answer: _replies.Message) -> bytes:
    """The bytes of an answer."""
    value = answer.get("bytes")
    return value if isinstance(value, bytes) else b""


def close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)

"""The connection to a sandbox's agent: requests on pooled connections, one connection of its own for each started program."""

from __future__ import annotations

import os
from socket import AF_UNIX, SOCK_STREAM, socket
from threading import Lock

from casemate import wire
from casemate.errors import ContainerNotFound, SandboxNotFound, WireError
from casemate.runtime import store
from casemate.sdk import _replies

_TIMEOUT_S = 30.0  # an agent that was taken over may not answer at all
_MOST_IDLE = 4


class Agent:
    """Speaks to the agent of one sandbox. Thread-safe."""

    def __init__(self, state_root: str, sandbox_id: str) -> None:
        try:
            self._entry = store.open_entry(state_root, sandbox_id)
        except ContainerNotFound:
            raise SandboxNotFound(f"no sandbox {sandbox_id!r} below {state_root}") from None
        self.sandbox_id = sandbox_id
        self._idle: list[socket] = []
        self._lock = Lock()

    def close(self) -> None:
        """Closes the connections; the sandbox stays."""
        with self._lock:
            idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()
        self._entry.close()

    def connect(self) -> socket:
        """A new connection, the caller's to close. Raises SandboxNotFound if the sandbox has ended."""
        channel = socket(AF_UNIX, SOCK_STREAM)
        try:
            channel.settimeout(_TIMEOUT_S)
            if self._entry.fd < 0:
                raise FileNotFoundError
            channel.connect(self._entry.socket_path(store.AGENT_SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            channel.close()
            raise self._ended() from None
        except BaseException:
            channel.close()
            raise
        return channel

    def request(self, name: str, **arguments: object) -> _replies.Message:
        """Asks and returns the checked answer. Raises FileNotFound, NotPermitted, SandboxError, SandboxNotFound, WireError."""
        message, descriptors = self._ask(name, arguments)
        _close_all(descriptors)
        return _replies.check(message)

    def request_descriptor(self, name: str, **arguments: object) -> tuple[_replies.Message, int]:
        """As `request`, for an answer that brings a descriptor, which becomes the caller's."""
        message, descriptors = self._ask(name, arguments)
        try:
            _replies.check(message)
            if len(descriptors) != 1:
                raise WireError(f"the agent sent {len(descriptors)} descriptors, expected 1")
        except BaseException:
            _close_all(descriptors)
            raise
        return message, descriptors[0]

    def open_request(self, name: str, descriptors: tuple[int, ...], **arguments: object) -> tuple[socket, _replies.Message, list[int]]:
        """Asks on a connection of its own, on which more will follow: (connection, checked answer, descriptors), all the caller's to close."""
        channel = self.connect()
        received: list[int] = []
        try:
            message, received = self._exchange(channel, name, arguments, descriptors)
            return channel, _replies.check(message), received
        except BaseException:
            _close_all(received)
            channel.close()
            raise

    def ask(self, channel: socket, name: str, **arguments: object) -> _replies.Message:
        """Asks on a connection that `open_request` opened and returns the checked answer. Raises as `request`."""
        message, descriptors = self._exchange(channel, name, arguments, ())
        _close_all(descriptors)
        return _replies.check(message)

    def _ask(self, name: str, arguments: dict[str, object]) -> tuple[_replies.Message, list[int]]:
        with self._lock:
            channel = self._idle.pop() if self._idle else None
        if channel is None:
            channel = self.connect()
        try:
            answer = self._exchange(channel, name, arguments, ())
        except BaseException:
            channel.close()
            raise
        with self._lock:
            if len(self._idle) < _MOST_IDLE and self._entry.fd >= 0:
                self._idle.append(channel)
                return answer
        channel.close()
        return answer

    def _exchange(self, channel: socket, name: str, arguments: dict[str, object], descriptors: tuple[int, ...]) -> tuple[_replies.Message, list[int]]:
        try:
            wire.send(channel, {"request": name, **arguments}, descriptors)
            message, received = wire.receive(channel)
        except (BrokenPipeError, ConnectionResetError):
            raise self._ended() from None
        except TimeoutError:
            raise WireError(f"the agent of sandbox {self.sandbox_id!r} did not answer {name!r} within {_TIMEOUT_S:g} s") from None
        if message is None:
            raise self._ended()
        return message, received

    def _ended(self) -> SandboxNotFound:
        return SandboxNotFound(f"sandbox {self.sandbox_id!r} has ended")


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)

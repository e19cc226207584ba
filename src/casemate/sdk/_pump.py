"""Collects one program's output and its end, whoever waits: a loop of poll, a thread's selector or asyncio. Never blocks."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable
from socket import MSG_DONTWAIT, socket
from typing import Protocol

from casemate import wire
from casemate.errors import WireError
from casemate.isolation.base import ExitStatus
from casemate.sdk import _replies
from casemate.sdk.types import CommandResult

_CHUNK = 65536
MAX_OUTPUT = 16 << 20


class End:
    """How a program ended. Times in seconds, memory in bytes."""

    __slots__ = ("cpu_s", "max_memory", "status")

    def __init__(self, status: ExitStatus, cpu_s: float = 0.0, max_memory: int = 0) -> None:
        self.status = status
        self.cpu_s = cpu_s
        self.max_memory = max_memory


class EndSource(Protocol):
    """Where the end is told: readable at `fileno` when `poll` has something new."""

    def fileno(self) -> int: ...
    def poll(self) -> End | None: ...
    def close(self) -> None: ...


class AgentEnd:
    """The agent's `exited` event on the program's connection. A connection that ends before it means that the sandbox was killed."""

    def __init__(self, channel: socket, pid: int) -> None:
        self._channel = channel
        self._pid = pid
        self._data = b""

    def fileno(self) -> int:
        return self._channel.fileno()

    def poll(self) -> End | None:
        try:
            data = self._channel.recv(4096, MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            return End(ExitStatus(None, 9))
        self._data += data
        if len(self._data) < 4 or len(self._data) < 4 + wire.frame_length(self._data[:4]):
            return None
        message = wire.decode_body(self._data[4 : 4 + wire.frame_length(self._data[:4])])
        if message.get("event") != "exited" or _replies.integer(message, "pid") != self._pid:
            raise WireError(f"the agent sent {message.get('event')!r} where the end of program {self._pid} was due")
        return _end(message)

    def close(self) -> None:
        self._channel.close()


def _end(message: _replies.Message) -> End:
    code, signal = _replies.optional_integer(message, "code"), _replies.optional_integer(message, "signal")
    cpu_us = _replies.integer(message, "user_us") + _replies.integer(message, "system_us")
    status = ExitStatus(code & 0xFF) if code is not None else ExitStatus(None, (signal or 9) & 0x7F)
    return End(status, cpu_us / 1e6, _replies.integer(message, "max_rss_kib") << 10)


class Stream:
    """One output: a descriptor of ours, what came, and who hears of it. Text is decoded across the borders of reads."""

    def __init__(self, fd: int, on_text: Callable[[str], object] | None = None, on_bytes: Callable[[bytes], object] | None = None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.chunks: list[bytes] = []
        self.size = 0
        self.truncated = False
        self._on_text = on_text
        self._on_bytes = on_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if on_text else None

    def take(self, most: int) -> bool:
        """Reads what is there; False at the end of the stream, which closes it."""
        try:
            data = os.read(self.fd, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:  # EIO of a terminal: no process has it open
            data = b""
        if data:
            self._keep(data, most)
        self._tell(data)
        if not data:
            self.close()
        return bool(data)

    def drain(self, most: int) -> None:
        """What was written before the program's end. A program that outlives it, with the stream open, is not waited for."""
        while self.fd >= 0:
            before = self.size
            if not self.take(most) or self.size == before:
                break
        if self.fd >= 0:
            self._tell(b"")
            self.close()

    def _keep(self, data: bytes, most: int) -> None:
        room = max(0, most - sum(map(len, self.chunks))) if self.size + len(data) > most else len(data)
        self.truncated |= room < len(data)
        self.size += len(data)
        if room:
            self.chunks.append(data[:room])

    def _tell(self, data: bytes) -> None:
        if self._on_bytes and data:
            self._on_bytes(data)
        if self._on_text and self._decoder:
            text = self._decoder.decode(data, final=not data)
            if text:
                self._on_text(text)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Pump:
    """One program's streams and end. `fds` says what to wait for; call `ready` for each that is readable, until `end` is there."""

    def __init__(self, source: EndSource, stdout: Stream | None, stderr: Stream | None, *, max_output: int = MAX_OUTPUT) -> None:
        self._source = source
        self._streams = {stream.fd: stream for stream in (stdout, stderr) if stream}
        self._stdout = stdout
        self._stderr = stderr
        self._max_output = max_output
        self._started = time.monotonic()
        self.end: End | None = None
        self.duration_s = 0.0

    def fds(self) -> list[int]:
        """The descriptors to wait for; empty once it has ended."""
        return [] if self.end else [self._source.fileno(), *self._streams]

    def ready(self, fd: int) -> None:
        """Takes in what `fd` has. Raises what a callback raises; WireError."""
        stream = self._streams.get(fd)
        if stream is not None:
            if not stream.take(self._max_output):
                del self._streams[fd]
        elif self.end is None and fd == self._source.fileno():
            end = self._source.poll()
            if end is not None:
                self._finish(end)

    def _finish(self, end: End) -> None:
        self.end = end
        self.duration_s = time.monotonic() - self._started
        streams, self._streams = self._streams, {}
        self._source.close()
        try:
            for stream in streams.values():
                stream.drain(self._max_output)
        finally:
            for stream in streams.values():
                stream.close()

    def close(self) -> None:
        """Lets go of all descriptors; the program goes on."""
        for stream in self._streams.values():
            stream.close()
        self._streams = {}
        self._source.close()

    def output(self) -> tuple[bytes, bytes]:
        """What came so far: (stdout, stderr)."""
        return b"".join(self._stdout.chunks) if self._stdout else b"", b"".join(self._stderr.chunks) if self._stderr else b""

    def result(self, error: str = "") -> CommandResult:
        """After the end."""
        assert self.end is not None
        stdout, stderr = self.output()
        return CommandResult(
            exit_code=self.end.status.shell_code,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
            error=error,
            truncated=any(stream.truncated for stream in (self._stdout, self._stderr) if stream),
            signal=self.end.status.signal,
            duration_s=self.duration_s,
            cpu_s=self.end.cpu_s,
            max_memory=self.end.max_memory,
        )

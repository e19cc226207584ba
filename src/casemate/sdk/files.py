"""`sandbox.files`: files in a sandbox, read and written through descriptors that the agent opened."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from io import FileIO
from typing import IO, Literal, overload

from casemate.errors import FileNotFound, SandboxError
from casemate.sdk import _replies
from casemate.sdk._kept import KeptFile
from casemate.sdk._session import Session
from casemate.sdk.types import EntryInfo, WriteEntry
from casemate.sdk.watch import WatchHandle

_CHUNK = 1 << 20
MAX_READ = 256 << 20
_MOST_ENTRIES = 100_000


class Files:
    """Reads and changes files. Relative paths count from the sandbox's working directory."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @overload
    def read(self, path: str, format: Literal["text"] = "text", *, max_bytes: int = MAX_READ) -> str: ...
    @overload
    def read(self, path: str, format: Literal["bytes"], *, max_bytes: int = MAX_READ) -> bytes: ...
    @overload
    def read(self, path: str, format: Literal["stream"], *, max_bytes: int = MAX_READ) -> Iterator[bytes]: ...

    def read(self, path: str, format: Literal["text", "bytes", "stream"] = "text", *, max_bytes: int = MAX_READ) -> str | bytes | Iterator[bytes]:
        """A file's content: text (UTF-8), bytes, or a stream of chunks of at most 1 MiB, which has no limit.

        Raises FileNotFound, NotPermitted, SandboxError (a directory or device, or more than `max_bytes`: a file of a sandbox can claim any size).
        """
        if format not in ("text", "bytes", "stream"):
            raise SandboxError(f"format: expected 'text', 'bytes' or 'stream', got {format!r}")
        opened = self._open(path, os.O_RDONLY)
        if format == "stream":
            return _chunks(opened)
        data = b""
        with opened as file:
            while True:
                chunk = file.read(_CHUNK)
                if not chunk:
                    break
                data += chunk
                if len(data) > max_bytes:
                    raise SandboxError(f"{path} is larger than {max_bytes} bytes: read it as a stream, or raise max_bytes")
        return data.decode("utf-8", "replace") if format == "text" else data

    def write(self, path: str, data: str | bytes | IO[bytes], *, mode: int = 0o644) -> EntryInfo:
        """Writes a file, with the directories above it, and replaces what was there. Raises NotPermitted, SandboxError."""
        if not (isinstance(data, str | bytes | bytearray | memoryview) or hasattr(data, "read")):
            # Before the file is emptied.
            raise SandboxError(f"data: expected a text, bytes or an open file, got {data!r}")
        with self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=mode, parents=True) as file:
            for chunk in _parts(data):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) or 0 :]
        return self.get_info(path)

    def write_files(self, entries: Sequence[WriteEntry]) -> list[EntryInfo]:
        """Writes several files, in order."""
        return [self.write(entry.path, entry.data) for entry in entries]

    def list(self, path: str = ".", depth: int = 1) -> list[EntryInfo]:
        """The entries below a directory, `depth` levels deep, sorted. Raises FileNotFound, SandboxError (no directory, or more than 100,000 entries)."""
        if depth < 1:
            raise SandboxError(f"depth: expected 1 or more, got {depth}")
        root = self._absolute(path)
        answer = self._session.agent.request("list", path=root, depth=min(depth, 1 << 16), limit=_MOST_ENTRIES)
        if _replies.flag(answer, "truncated"):
            raise SandboxError(f"{path} has too many entries to list in one answer: list its directories one by one")
        entries = [_replies.mapping(value) for value in _replies.sequence(answer, "entries")]
        return [_replies.entry(f"{root.rstrip('/')}/{_replies.text(entry, 'path')}", entry) for entry in entries]

    def exists(self, path: str) -> bool:
        """Whether there is something of that name; a link that leads nowhere counts."""
        try:
            self.get_info(path)
        except FileNotFound:
            return False
        return True

    def get_info(self, path: str, *, follow: bool = False) -> EntryInfo:
        """What a path is; of a link, the link itself unless `follow`. Raises FileNotFound."""
        absolute = self._absolute(path)
        answer = self._session.agent.request("stat", path=absolute, follow=follow)
        return _replies.entry(absolute, _replies.mapping(answer.get("status")))

    def make_dir(self, path: str, *, mode: int = 0o755) -> bool:
        """Makes a directory and those above it; False if it was there. Raises SandboxError if a file has the name."""
        return _replies.flag(self._session.agent.request("make_dir", path=self._absolute(path), mode=mode, parents=True), "created")

    def rename(self, old_path: str, new_path: str) -> EntryInfo:
        """Renames; replaces a file of the new name. Raises FileNotFound, SandboxError."""
        self._session.agent.request("rename", source=self._absolute(old_path), destination=self._absolute(new_path))
        return self.get_info(new_path)

    def remove(self, path: str) -> None:
        """Removes a file, or a directory with all that is in it. Links are removed, not followed. Raises FileNotFound."""
        self._session.agent.request("remove", path=self._absolute(path), recursive=True)

    def watch_dir(self, path: str, *, recursive: bool = False) -> WatchHandle:
        """Follows changes below a directory: ask the handle for them. Raises FileNotFound, SandboxError (no directory)."""
        return WatchHandle(self._session, self._absolute(path), recursive=recursive)

    def _absolute(self, path: str) -> str:
        return posixpath.normpath(self._session.path(path)) if ".." not in path else self._session.path(path)

    def _open(self, path: str, flags: int, *, mode: int = 0, parents: bool = False) -> FileIO | KeptFile:
        if self._session.keeps_descriptors:
            return KeptFile(self._session, self._absolute(path), flags & ~os.O_CLOEXEC, mode=mode, parents=parents)
        # Linux's numbers, which O_CLOEXEC is not among: the agent adds what it needs.
        _, fd = self._session.agent.request_descriptor("open", path=self._absolute(path), flags=flags & ~os.O_CLOEXEC, mode=mode, parents=parents)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise SandboxError(f"{path} is not a file")
        return FileIO(fd, "wb" if flags & os.O_WRONLY else "rb")


def _chunks(opened: FileIO | KeptFile) -> Iterator[bytes]:
    with opened as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _parts(data: str | bytes | IO[bytes]) -> Iterator[bytes]:
    if isinstance(data, str):
        yield data.encode()
    elif isinstance(data, bytes | bytearray | memoryview):
        yield bytes(data)
    else:
        while chunk := data.read(_CHUNK):
            yield chunk

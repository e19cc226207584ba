"""Changes below a directory of a sandbox, from an inotify descriptor that the agent made: events come without asking it."""

from __future__ import annotations

import os
import struct

from casemate.errors import SandboxError
from casemate.sdk import _replies
from casemate.sdk._kept import KeptWatch
from casemate.sdk._session import Session
from casemate.sdk.types import EventType, FilesystemEvent

_MOST_ENTRIES = 10_000  # of a directory that appeared
_HEADER = struct.Struct("iIII")  # inotify(7): wd, mask, cookie, len
_KINDS = (
    (0x100, EventType.CREATE),
    (0x2, EventType.WRITE),
    (0x200, EventType.REMOVE),
    (0x40 | 0x80, EventType.RENAME),
    (0x4, EventType.CHMOD),
)
_IS_DIR, _CREATED, _OVERFLOW, _MOVED_TO = 0x4000_0000, 0x100, 0x4000, 0x80
_FLAGS = 0x100 | 0x2 | 0x200 | 0x40 | 0x80 | 0x4 | 0x0100_0000


class WatchHandle:
    """A watched directory. `get_new_events` returns what happened since the last call; `stop` ends it. A context."""

    def __init__(self, session: Session, path: str, *, recursive: bool) -> None:
        self._kept = KeptWatch(session, path, recursive=recursive) if session.keeps_descriptors else None
        if self._kept:
            answer, self._fd = self._kept.answer, self._kept.fileno()
        else:
            answer, self._fd = session.agent.request_descriptor("watch", path=path, recursive=recursive)
        self._session = session
        self._path = path
        self._recursive = recursive
        self._directories: dict[int, str] = {}
        for pair in _replies.sequence(answer, "directories"):
            if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int):
                self._directories[pair[0]] = str(pair[1])

    def fileno(self) -> int:
        """Readable when there are events; -1 once stopped."""
        return self._fd

    def get_new_events(self) -> list[FilesystemEvent]:
        """What happened since the last call. Raises SandboxError after `stop`, or if so much happened that the kernel dropped events."""
        if self._fd < 0:
            raise SandboxError("the watch was stopped")
        events: list[FilesystemEvent] = []
        while True:
            data = self._next()
            if not data:
                return events
            self._read(data, events)

    def _next(self) -> bytes:
        if self._kept:
            return self._kept.read()
        try:
            return os.read(self._fd, 65536)
        except BlockingIOError:
            return b""

    def _read(self, data: bytes, events: list[FilesystemEvent]) -> None:
        at = 0
        while at + _HEADER.size <= len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, at)
            name = data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0").decode("utf-8", "replace")
            at += _HEADER.size + length
            if mask & _OVERFLOW:
                raise SandboxError("more happened than the kernel keeps events for: list the directory again")
            directory = self._directories.get(watch)
            if directory is None or not name:
                continue
            relative = f"{directory}/{name}" if directory else name
            events += [FilesystemEvent(relative, kind) for bits, kind in _KINDS if mask & bits]
            if self._recursive and mask & _IS_DIR and mask & (_CREATED | _MOVED_TO):
                self._add(relative, events)

    def _add(self, relative: str, events: list[FilesystemEvent]) -> None:
        """Watches a directory that appeared, and tells what was put there before the watch was."""
        if self._kept:
            return self._add_kept(self._kept, relative, events)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            _, directory = self._session.agent.request_descriptor("open", path=f"{self._path}/{relative}", flags=flags, mode=0, parents=False)
        except SandboxError:
            return  # gone already
        try:
            watch = _add_watch(self._fd, f"/proc/self/fd/{directory}")
            if watch < 0:
                return
            self._directories[watch] = relative
            with os.scandir(directory) as entries:
                for entry in entries:
                    inner = f"{relative}/{entry.name}"
                    events.append(FilesystemEvent(inner, EventType.CREATE))
                    if entry.is_dir(follow_symlinks=False):
                        self._add(inner, events)
        finally:
            os.close(directory)

    def _add_kept(self, kept: KeptWatch, relative: str, events: list[FilesystemEvent]) -> None:
        path = f"{self._path}/{relative}"
        try:
            self._directories[kept.add(path)] = relative
            answer = self._session.agent.request("list", path=path, depth=1, limit=_MOST_ENTRIES)
        except SandboxError:
            return  # gone already
        for value in _replies.sequence(answer, "entries"):
            found = _replies.mapping(value)
            inner = f"{relative}/{_replies.text(found, 'path')}"
            events.append(FilesystemEvent(inner, EventType.CREATE))
            if found.get("type") == "dir":
                self._add_kept(kept, inner, events)

    def stop(self) -> None:
        """Ends the watch."""
        if self._fd < 0:
            return
        if self._kept:
            self._kept.close()
        else:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> WatchHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _add_watch(inotify: int, path: str) -> int:
    import ctypes

    return int(ctypes.CDLL(None, use_errno=True).inotify_add_watch(inotify, path.encode(), ctypes.c_uint32(_FLAGS)))

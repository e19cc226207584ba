"""`sandbox.files` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import IO, Literal, overload

from casemate.sdk._session import Session
from casemate.sdk.aio.watch import AsyncWatchHandle
from casemate.sdk.files import MAX_READ, Files
from casemate.sdk.types import EntryInfo, FilesystemEvent, WriteEntry


class AsyncFiles:
    """As `Files`, awaited."""

    def __init__(self, session: Session) -> None:
        self._files = Files(session)

    @overload
    async def read(self, path: str, format: Literal["text"] = "text", *, max_bytes: int = MAX_READ) -> str: ...
    @overload
    async def read(self, path: str, format: Literal["bytes"], *, max_bytes: int = MAX_READ) -> bytes: ...
    @overload
    async def read(self, path: str, format: Literal["stream"], *, max_bytes: int = MAX_READ) -> AsyncIterator[bytes]: ...

    async def read(self, path: str, format: Literal["text", "bytes", "stream"] = "text", *, max_bytes: int = MAX_READ) -> str | bytes | AsyncIterator[bytes]:
        """A file's content: text, bytes or a stream of chunks."""
        if format == "stream":
            return _stream(await asyncio.to_thread(self._files.read, path, "stream"))
        if format == "bytes":
            return await asyncio.to_thread(self._files.read, path, "bytes", max_bytes=max_bytes)
        return await asyncio.to_thread(self._files.read, path, format, max_bytes=max_bytes)

    async def write(self, path: str, data: str | bytes | IO[bytes], *, mode: int = 0o644) -> EntryInfo:
        """Writes a file, with the directories above it."""
        return await asyncio.to_thread(self._files.write, path, data, mode=mode)

    async def write_files(self, entries: Sequence[WriteEntry]) -> list[EntryInfo]:
        """Writes several files, in order."""
        return await asyncio.to_thread(self._files.write_files, entries)

    async def list(self, path: str = ".", depth: int = 1) -> list[EntryInfo]:
        """The entries below a directory."""
        return await asyncio.to_thread(self._files.list, path, depth)

    async def exists(self, path: str) -> bool:
        """Whether there is something of that name."""
        return await asyncio.to_thread(self._files.exists, path)

    async def get_info(self, path: str, *, follow: bool = False) -> EntryInfo:
        """What a path is."""
        return await asyncio.to_thread(self._files.get_info, path, follow=follow)

    async def make_dir(self, path: str, *, mode: int = 0o755) -> bool:
        """Makes a directory and those above it; False if it was there."""
        return await asyncio.to_thread(self._files.make_dir, path, mode=mode)

    async def rename(self, old_path: str, new_path: str) -> EntryInfo:
        """Renames; replaces a file of the new name."""
        return await asyncio.to_thread(self._files.rename, old_path, new_path)

    async def remove(self, path: str) -> None:
        """Removes a file, or a directory with all that is in it."""
        await asyncio.to_thread(self._files.remove, path)

    async def watch_dir(self, path: str, on_event: Callable[[FilesystemEvent], object], *, recursive: bool = False) -> AsyncWatchHandle:
        """Calls `on_event` on the event loop for each change below a directory, until the handle's `stop`."""
        return AsyncWatchHandle(await asyncio.to_thread(self._files.watch_dir, path, recursive=recursive), on_event)


async def _stream(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk

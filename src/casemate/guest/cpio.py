"""The archive that Linux unpacks as its first root: cpio's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst in Linux).

Written here because it is forty lines, and the same bytes for the same content: no time, no inode number and no owner of this host is in it.
"""

from __future__ import annotations

import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_TRAILER = "TRAILER!!!"


class Archive:
    """Writes entries to a file. Directories come before what is in them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0

    def directory(self, name: str, mode: int = 0o755) -> None:
        self._entry(name, stat.S_IFDIR | mode, b"")

    def regular(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._entry(name, stat.S_IFREG | mode, content)

    def character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._entry(name, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> None:
        self._entry(_TRAILER, 0, b"")

    def _entry(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        # magic, then ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._file.write(_padded(header + encoded))
        self._file.write(_padded(content))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)

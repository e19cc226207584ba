"""Reads and writes cgroup files. Nothing here creates a file: a cgroup's files are the kernel's."""

from __future__ import annotations

import errno
import os

from casemate.errors import CgroupError

_CHUNK = 65536
_MAX_FILE = 16 << 20  # cgroup.procs of a million processes is 8 MiB; more is not a cgroup's file


def read(path: str) -> str:
    """A file's whole text. Raises OSError; CgroupError if it is longer than any cgroup file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        size = 0
        while chunk := os.read(fd, _CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > _MAX_FILE:
                raise CgroupError("file is longer than 16 MiB", path=path)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")


def read_or(path: str, default: str) -> str:
    """A file's text without the final newline; `default` where it does not exist, cannot be read or its cgroup is gone."""
    try:
        return read(path).rstrip("\n")
    except OSError:
        return default


def read_integer(path: str, default: int = 0) -> int:
    """The integer in a file; `max` is 2**64 - 1, as in runc's statistics."""
    return to_integer(read_or(path, ""), default)


def to_integer(text: str, default: int = 0) -> int:
    """An integer of the kernel's text; `max` is 2**64 - 1."""
    text = text.strip()
    if text == "max":
        return (1 << 64) - 1
    try:
        return int(text)
    except ValueError:
        return default


def read_table(path: str) -> dict[str, int]:
    """Lines of `name number` as a dict; empty where the file does not exist."""
    table: dict[str, int] = {}
    for line in read_or(path, "").splitlines():
        name, _, value = line.partition(" ")
        table[name] = to_integer(value)
    return table


def write(path: str, value: str) -> None:
    """Writes with one write(2), as the kernel wants it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def failure(error: OSError, what: str, *, controller: str, path: str, field: str = "") -> CgroupError:
    """The CgroupError of a failed call, with a remedy where the cause is known."""
    number = error.errno or 0
    remedy = ""
    if number in (errno.EACCES, errno.EPERM):
        remedy = "run as root, or have this cgroup delegated to the user"
    elif number == errno.EROFS:
        remedy = "mount the cgroup filesystem writable"
    elif number == errno.EBUSY and controller == "memory":
        remedy = "the limit is below what is in use"
    text = f"{what}: {os.strerror(number)}"
    return CgroupError(text, controller=controller, path=path, field=field, errno=number, remedy=remedy)

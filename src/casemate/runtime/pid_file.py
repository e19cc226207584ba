"""`--pid-file`."""

from __future__ import annotations

import os


def write_pid_file(path: str, pid: int) -> None:
    """Writes a pid by rename, so that a watcher never reads an empty file."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)

"""`casemate logs ID`: what a container in the background wrote, from the file `log` of its state directory."""

from __future__ import annotations

import os
import select

from casemate.cli.options import FLAG, VALUE, Option
from casemate.cli.verb import open_container, read
from casemate.errors import ContainerError, UsageError
from casemate.host import process
from casemate.runtime.container import Container
from casemate.runtime.store import LOG_FILE

HELP = "Prints the output that a container in the background has written."
OPTIONS = [
    Option("follow f", FLAG, "go on printing until the container ends"),
    Option("tail n", VALUE, "only the last N lines", "N"),
]
_BLOCK = 1 << 16
_INTERVAL_MS = 100


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="logs [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    tail = parsed.integer("tail", -1)
    if parsed.given("tail") and tail < 0:
        raise UsageError(f"--tail: expected 0 or more, got {parsed.value('tail')!r}")
    with open_container(parsed.arguments[0]) as container:
        log = _open(container)
        try:
            if tail >= 0:
                os.lseek(log, _start_of_last(log, tail), os.SEEK_SET)
            _copy(log)
            if parsed.flag("follow"):
                _follow(log, container)
        finally:
            os.close(log)
    return 0


def _open(container: Container) -> int:
    try:
        return os.open(LOG_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=container.entry.fd)
    except FileNotFoundError:
        message = f"container {container.id!r} keeps no log: its output goes where the one who started it sent it"
        raise ContainerError(container.id, message) from None


def _start_of_last(log: int, lines: int) -> int:
    """The offset of the last `lines` lines, found from the end: a log may be long."""
    end = os.fstat(log).st_size
    position = end
    wanted = lines
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(log, position - start, start)
        at = len(block)
        if position == end and lines and block.endswith(b"\n"):
            at -= 1  # ends the last line, and starts no further one
        while wanted and (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
        if not wanted:
            return start + at + 1 if lines else end
        position = start
    return 0


def _copy(log: int) -> int:
    """Copies from where the descriptor stands to the end, and returns how much."""
    copied = 0
    while data := os.read(log, _BLOCK):
        copied += len(data)
        while data:
            data = data[os.write(1, data) :]
    return copied


def _follow(log: int, container: Container) -> None:
    """Prints what is added until the container has ended and nothing more comes."""
    pidfd = process.open_pidfd(container.record.pid, container.record.start_time)
    poll = select.poll()
    try:
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
            while not poll.poll(_INTERVAL_MS):
                if os.fstat(log).st_size < os.lseek(log, 0, os.SEEK_CUR):
                    os.lseek(log, 0, os.SEEK_SET)  # emptied by somebody: from its start again
                _copy(log)
            poll.unregister(pidfd)
        while _copy(log):
            poll.poll(_INTERVAL_MS)  # whoever writes the file may be behind the program
    finally:
        if pidfd is not None:
            os.close(pidfd)

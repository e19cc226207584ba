"""Processes by identity rather than by number: a pid alone may since belong to someone else."""

from __future__ import annotations

import _signal
import os

_STATE = 0  # index after the closing parenthesis of /proc/PID/stat: field 3
_START_TIME = 19  # field 22, proc_pid_stat(5)


def _stat_fields(pid: int) -> list[bytes]:
    """Fields 3 and following of /proc/PID/stat; empty if there is no such process.

    Field 2 is the program's name, which the program chooses: it may hold spaces and parentheses, so the split is at the last `)`.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rfind(b")") + 2 :].split()


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot; with the pid it identifies the process. 0: no such process."""
    fields = _stat_fields(pid)
    return int(fields[_START_TIME]) if len(fields) > _START_TIME else 0


def is_same(pid: int, started: int) -> bool:
    """Whether process `pid` (a zombie included) is the one whose `start_time` was `started`."""
    return pid > 0 and started > 0 and start_time(pid) == started


def state(pid: int) -> str:
    """The state letter (R, S, D, T, t, Z, X, I); empty if there is no such process."""
    fields = _stat_fields(pid)
    return fields[_STATE].decode() if fields else ""


def pidfd_open(pid: int) -> int | None:
    """A descriptor (close-on-exec, the caller's) of process `pid` whatever it is; None if there is none."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def open_pidfd(pid: int, started: int) -> int | None:
    """A descriptor of the process with this pid and start time; None if it is gone or the pid is another's now.

    Opened first and compared then: the descriptor holds whichever process it was opened for.
    """
    if pid <= 0 or started <= 0:
        return None
    fd = pidfd_open(pid)
    if fd is not None and not is_same(pid, started):
        os.close(fd)
        return None
    return fd


def pidfd_send_signal(pidfd: int, signal: int) -> bool:
    """Signals the descriptor's process; False if it has ended. Raises PermissionError."""
    try:
        _signal.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    return True


def send_signal(pid: int, started: int, signal: int) -> bool:
    """Signals the process with this pid and start time; False if it is gone. Raises PermissionError."""
    pidfd = open_pidfd(pid, started)
    if pidfd is None:
        return False
    try:
        return pidfd_send_signal(pidfd, signal)
    finally:
        os.close(pidfd)


def wait_child(pid: int) -> None:
    """Waits for a child's end and reaps it; nothing if somebody else did."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def handles_signal(pid: int, signal: int) -> bool:
    """Whether a process catches, ignores or blocks a signal (it is then kept, or read from a signalfd); True also if it is gone."""
    try:
        # Bytes: a handler of a signal runs this, in the midst of an import perhaps, where a decoder cannot be looked up.
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.rstrip(b"\n").split(b":\t", 1) for line in file if line.startswith(b"Sig"))
    except OSError:
        return True
    return bool((int(fields[b"SigCgt"], 16) | int(fields[b"SigIgn"], 16) | int(fields[b"SigBlk"], 16)) >> (signal - 1) & 1)

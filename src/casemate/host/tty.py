"""Relays between this process's terminal and the master of a program's."""

from __future__ import annotations

import _signal
import fcntl
import os
import select
import termios

_CHUNK = 65536


class Relay:
    """Raw mode, both directions and window size, until the program's side is closed. A context: the terminal's mode is restored."""

    def __init__(self, master: int, *, stdin: int = 0, stdout: int = 1) -> None:
        self._master = master
        self._stdin = stdin
        self._stdout = stdout
        self._saved: list[object] | None = None

    def __enter__(self) -> Relay:
        if os.isatty(self._stdin):
            self._saved = termios.tcgetattr(self._stdin)
            _make_raw(self._stdin)
            self._copy_size()
            _signal.signal(_signal.SIGWINCH, lambda *_: self._copy_size())
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            _signal.signal(_signal.SIGWINCH, _signal.SIG_DFL)
            termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
        os.close(self._master)

    def run(self, pid: int) -> None:
        """Copies until the program's terminal is closed, or process `pid` has ended and its output is read."""
        pidfd = os.pidfd_open(pid)
        try:
            self._copy(pidfd)
        finally:
            os.close(pidfd)

    def _copy(self, pidfd: int) -> None:
        poll = select.poll()
        for fd in (self._master, self._stdin, pidfd):
            poll.register(fd, select.POLLIN)
        ended = False
        while True:
            events = dict(poll.poll(0 if ended else None))
            if self._master in events and not self._forward(self._master, self._stdout):
                return
            if ended and self._master not in events:
                return
            if pidfd in events:
                ended = True
                poll.unregister(pidfd)
            if self._stdin in events and not self._forward(self._stdin, self._master):
                poll.unregister(self._stdin)
                _send_end_of_file(self._master)

    def _forward(self, source: int, target: int) -> bool:
        try:
            data = os.read(source, _CHUNK)
        except OSError:  # EIO: no process has the terminal open any more
            return False
        while data:
            data = data[os.write(target, data) :]
            if not data:
                return True
        return False

    def _copy_size(self) -> None:
        size = fcntl.ioctl(self._stdin, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


def terminal_size(fd: int) -> tuple[int, int]:
    """(columns, rows) of a terminal; (0, 0) if `fd` is none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return size.columns, size.lines


def _make_raw(fd: int) -> None:
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    mode[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)


def _send_end_of_file(master: int) -> None:
    os.write(master, b"\x04")

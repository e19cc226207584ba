"""Runs a command for a bounded time, on pipes or on a terminal, and leaves no process of it behind."""

from __future__ import annotations

import fcntl
import os
import pty
import selectors
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROWS, COLUMNS = 40, 111
TIMEOUT_S = 60.0


class Failed(Exception):
    """What a case saw is not what it must see; the message is the note in the table."""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str = ""

    def expect(self, code: int = 0, out: str | None = None) -> Done:
        """Itself, if it ended with `code` and printed `out`. Raises Failed."""
        if self.code != code or (out is not None and self.out != out):
            what = f"exit code {self.code}, not {code}" if self.code != code else f"printed {self.out[-60:]!r}, not {out!r}"
            raise Failed(f"{what}; {last_line(self.err) or last_line(self.out)}")
        return self


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def call(argv: Sequence[str], *, directory: Path, environment: Mapping[str, str], text: str | None = None, timeout_s: float = TIMEOUT_S) -> Done:
    """Runs `argv` with `text` for its standard input. Raises Failed when it takes longer than `timeout_s`."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=directory,  # conmon writes a file where it is started
        env=dict(environment),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(text, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        close_pipes(process)
        raise Failed(f"`{' '.join([argv[0], *argv[-3:]])}` still ran after {timeout_s:.0f} s") from None
    return Done(process.returncode, out, err)


def close_pipes(process: subprocess.Popen[str]) -> None:
    # not communicate(): a daemon that was started below the command may hold the other ends
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def call_in_terminal(argv: Sequence[str], *, directory: Path, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Done:
    """As `call`, with a terminal of ROWS x COLUMNS for all three descriptors, as `ctr -t` needs one."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=directory,
        env=dict(environment),
        start_new_session=True,
    )
    os.close(slave)
    try:
        output = read_until_end(process, master, time.monotonic() + timeout_s)
    finally:
        os.close(master)
    if output is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise Failed(f"`{' '.join([argv[0], *argv[-3:]])}` still ran on its terminal after {timeout_s:.0f} s")
    return Done(process.wait(), output.decode(errors="replace"))


def read_until_end(process: subprocess.Popen[bytes], master: int, deadline: float) -> bytes | None:
    """What came from the terminal until the process ended, or None when the deadline came first."""
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(master, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            if selector.select(timeout=0.1):
                try:
                    output += os.read(master, 65536)
                except OSError:  # EIO: nobody holds the other end any more
                    process.wait(timeout=max(0.1, deadline - time.monotonic()))
                    return output
            elif ended:
                return output
    return None

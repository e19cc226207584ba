"""Runs in a sandbox: makes each system call once, with arguments that no call can use, and writes what it got as JSON.

inside.py hands its text to the sandbox's Python. Each call is made by a process of its own, which it may end or block.
"""

import ctypes
import json
import os
import select
import signal
import sys

_WAIT_MS = 300


def main() -> None:
    """sys.argv: the numbers."""
    os.write(1, try_all(sys.argv[1:]))


def try_all(numbers: list[str]) -> bytes:
    """JSON: {number: errno (0: it succeeded), "signal N", "ended" or "blocked"}."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return json.dumps({number: _try(libc, int(number)) for number in numbers}).encode()


def _try(libc: ctypes.CDLL, number: int) -> int | str:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, str(_call(libc, number)).encode())
        os._exit(0)
    os.close(writer)
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    has_ended = bool(poll.poll(_WAIT_MS))
    text = os.read(reader, 16) if has_ended else b""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reader)
    if text:
        return int(text)
    if not has_ended:
        return "blocked"
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended"


def _call(libc: ctypes.CDLL, number: int) -> int:
    """The error number. -1 is no pointer, descriptor, process or size; some calls take it for an operation they do not have, and 0 is one."""
    for value in (-1, 0):
        ctypes.set_errno(0)
        if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(value)] * 6) != -1:
            return 0
        if ctypes.get_errno() != 38:  # ENOSYS
            break
    return ctypes.get_errno()


if __name__ == "__main__":
    main()

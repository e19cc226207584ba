"""Closes descriptors on a thread that nobody waits for: the last close of a file that was removed may wait for the disk."""

from __future__ import annotations

import _thread
import os

_lock = _thread.allocate_lock()  # held from the hand-over until all are closed
_left: list[int] = []


def close_meanwhile(fds: list[int]) -> None:
    """Returns at once, unless an earlier call's are not closed yet: so never more than one's are open."""
    _lock.acquire()
    _left.extend(fds)
    try:
        _thread.start_new_thread(_close_left, ())
    except RuntimeError:
        _close_left()


def settle() -> None:
    """Returns when all are closed."""
    with _lock:
        pass


def _close_left() -> None:
    try:
        while _left:
            os.close(_left.pop())
    finally:
        _lock.release()


def _forget() -> None:
    """The thread is not in a forked child."""
    global _lock
    _lock = _thread.allocate_lock()
    while _left:
        os.close(_left.pop())


os.register_at_fork(after_in_child=_forget)

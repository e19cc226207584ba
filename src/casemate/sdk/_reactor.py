"""The thread that pumps background commands, so that a program nobody waits for is not stopped by a full pipe. Started with the first one."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from casemate.sdk._pump import Pump

_lock = threading.Lock()
_pumps: dict[Pump, Callable[[BaseException | None], None]] = {}
_wake = -1
_pid = 0


def follow(pump: Pump, finished: Callable[[BaseException | None], None]) -> None:
    """Pumps until the end, then calls `finished` with None or what went wrong (a callback's exception). Both on the thread."""
    global _wake, _pid
    with _lock:
        _pumps[pump] = finished
        if _pid != os.getpid():  # none yet, or this is a fork that has no thread
            reader, _wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            _pid = os.getpid()
            threading.Thread(target=_run, args=(reader,), name="casemate", daemon=True).start()
    _poke()


def forget(pump: Pump) -> None:
    """Stops pumping; the caller closes the pump after."""
    with _lock:
        _pumps.pop(pump, None)
    _poke()


def _poke() -> None:
    try:
        os.write(_wake, b"x")
    except BlockingIOError:
        pass  # it will wake up anyway


def _run(reader: int) -> None:
    while True:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        with _lock:
            owners = {fd: pump for pump in _pumps for fd in pump.fds()}
        for fd in owners:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll():
            if fd == reader:
                os.read(reader, 4096)
            elif owners[fd] in _pumps:
                _serve(owners[fd], fd)


def _serve(pump: Pump, fd: int) -> None:
    problem: BaseException | None = None
    try:
        pump.ready(fd)
    except BaseException as error:
        problem = error
        pump.close()
    if pump.end is None and problem is None:
        return
    with _lock:
        finished = _pumps.pop(pump, None)
    if finished:
        finished(problem)

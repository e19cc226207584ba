"""`kill`: sends a signal to the container's first process, or to all."""

from __future__ import annotations

import _signal

from casemate.errors import ContainerStateError, UsageError
from casemate.host import process
from casemate.runtime.container import CREATED, PAUSED, RUNNING, STOPPED, Container
from casemate.runtime.control import has_control, send_signal

_MAX_SIGNAL = 64


def signal_number(text: str) -> int:
    """A signal by number or by name, with or without SIG. Raises UsageError."""
    if text.isdecimal():
        number = int(text)
    else:
        name = text.upper()
        number = getattr(_signal, name if name.startswith("SIG") else f"SIG{name}", 0)
        if not isinstance(number, int) or name.startswith("SIG_"):
            number = 0
        number = number or _realtime(name.removeprefix("SIG"))
    if not 0 < number <= _MAX_SIGNAL and text != "0":
        raise UsageError(f"unknown signal {text!r}: expected a name such as TERM, or a number from 1 to {_MAX_SIGNAL}")
    return number


def _realtime(name: str) -> int:
    """The number of RTMIN+n or RTMAX-n; 0 for any other name."""
    for base, first, sign in (("RTMIN", _signal.SIGRTMIN, 1), ("RTMAX", _signal.SIGRTMAX, -1)):
        if name == base:
            return first
        offset = name.removeprefix(base).lstrip("+-")
        if name.startswith(base) and offset.isdecimal():
            return first + sign * int(offset)
    return 0


def kill(container: Container, signal: int, *, all_processes: bool = False) -> None:
    """Sends `signal`. Raises ContainerStateError if nothing runs there."""
    status = container.status()
    if all_processes and container.record.cgroup:
        if status == STOPPED and not container.cgroup().pids(all=True):
            raise ContainerStateError(container.id, "kill", status, RUNNING)
        if signal != _signal.SIGKILL and status == RUNNING and has_control(container):
            send_signal(container, signal)  # a signal of the host's would end the processes beside the programs, too
        else:
            container.cgroup().kill_all(signal)
        return
    if status not in (CREATED, RUNNING, PAUSED):
        raise ContainerStateError(container.id, "kill", status, RUNNING)
    process.send_signal(container.record.pid, container.record.start_time, signal)
    if status == PAUSED and signal == _signal.SIGKILL and container.cgroup().mode != "v2":
        container.cgroup().thaw()  # the v1 freezer holds even a killed process

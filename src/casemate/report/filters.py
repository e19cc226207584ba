"""The seccomp filters that a process has: read from the kernel, which is asked through ptrace(2). Needs root."""

from __future__ import annotations

import ctypes
import os
import threading
import time

from casemate.errors import CasemateError, HostError
from casemate.report.bpf import Instruction, decode

_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C  # linux/ptrace.h
_WALL = 0x40000000
_ENOENT, _EINVAL = 2, 22
_INSTRUCTION_BYTES = 8
# A thread that waits for a sentry's answer can only be killed (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV): it stops once it is answered, perhaps never.
_STOP_S = 0.25


def read_filters(pid: int) -> list[list[Instruction]]:
    """All filters of all threads of a process that can be stopped, each once. The process stands still meanwhile, for under a millisecond.

    Raises HostError: not root, a kernel without CONFIG_CHECKPOINT_RESTORE, or each thread waits for its sentry. CasemateError: no such process.
    """
    found: dict[bytes, None] = {}
    stopped = False
    try:
        threads = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        raise CasemateError(f"there is no process {pid}") from None
    for index, thread in enumerate(threads):
        try:
            filters = _by_a_tracer(thread)
            if filters is not None:
                stopped = True
                found.update(dict.fromkeys(filters))
        except ProcessLookupError:
            if not index:
                raise CasemateError(f"process {pid} has ended") from None
        except PermissionError as error:
            raise HostError(f"process {pid} cannot be traced: {error.strerror}", "run as root, on a process that nobody else traces") from None
    if not stopped:
        raise HostError(f"no thread of process {pid} can be stopped", "each waits for an answer of its sentry: look at one that computes")
    return [decode(data) for data in found]


def _by_a_tracer(thread: int) -> list[bytes] | None:
    """As `_of_thread`, by a thread of ours: what cannot be stopped cannot be let go either, but when its tracer ends."""
    result: list[list[bytes] | None] = []
    failure: list[Exception] = []

    def trace() -> None:
        try:
            result.append(_of_thread(thread))
        except (OSError, CasemateError) as error:
            failure.append(error)

    tracer = threading.Thread(target=trace)
    tracer.start()
    tracer.join()
    if failure:
        raise failure[0]
    return result[0]


def _of_thread(thread: int) -> list[bytes] | None:
    """None: it did not stop in time."""
    _ptrace(_SEIZE, thread)
    _ptrace(_INTERRUPT, thread)
    deadline = time.monotonic() + _STOP_S
    while os.waitpid(thread, _WALL | os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.0005)
    try:
        filters: list[bytes] = []
        while (data := _filter(thread, len(filters))) is not None:
            filters.append(data)
        return filters
    finally:
        _ptrace(_DETACH, thread)


def _filter(thread: int, index: int) -> bytes | None:
    try:
        count = _ptrace(_GET_FILTER, thread, index)
        buffer = ctypes.create_string_buffer(count * _INSTRUCTION_BYTES)
        _ptrace(_GET_FILTER, thread, index, ctypes.addressof(buffer))
        return buffer.raw
    except OSError as error:
        if error.errno in (_ENOENT, _EINVAL):  # EINVAL: the process has no filter at all
            return None
        raise HostError(f"the kernel does not show filters: {error.strerror}", "run as root, on a kernel with CONFIG_CHECKPOINT_RESTORE") from None


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    result: int = libc.ptrace(request, pid, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

"""The seccomp filters that a process has: read from the kernel, which is asked through ptrace(2). Needs root."""

from __future__ import annotations

import ctypes
import os

from casemate.errors import CasemateError, HostError
from casemate.report.bpf import Instruction, decode

_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C  # linux/ptrace.h
_WALL = 0x40000000
_ENOENT, _EINVAL = 2, 22
_INSTRUCTION_BYTES = 8


def read_filters(pid: int) -> list[list[Instruction]]:
    """All filters of all threads of a process, each once. The process stands still meanwhile, for under a millisecond.

    Raises HostError: not root, or a kernel without CONFIG_CHECKPOINT_RESTORE. CasemateError: no such process.
    """
    found: dict[bytes, None] = {}
    try:
        threads = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        raise CasemateError(f"there is no process {pid}") from None
    for index, thread in enumerate(threads):
        try:
            found.update(dict.fromkeys(_of_thread(thread)))
        except ProcessLookupError:
            if not index:
                raise CasemateError(f"process {pid} has ended") from None
        except PermissionError as error:
            raise HostError(f"process {pid} cannot be traced: {error.strerror}", "run as root, on a process that nobody else traces") from None
    return [decode(data) for data in found]


def _of_thread(thread: int) -> list[bytes]:
    _ptrace(_SEIZE, thread)
    try:
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, _WALL)
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

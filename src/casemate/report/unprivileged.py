"""Runs a function in a process without privileges and without filters: what a sandbox's answers are compared with."""

from __future__ import annotations

import ctypes
import os
import signal

from casemate.errors import CasemateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NOBODY = 65534
# unshare(2): a user namespace; pid, ipc, uts and network, so that nothing done there reaches the host's.
_USER, _OTHERS = 0x10000000, 0x20000000 | 0x08000000 | 0x04000000 | 0x40000000
_CAPABILITY_VERSION = 0x20080522
_TIMEOUT_S = 60


def unprivileged(function: Callable[[], bytes]) -> bytes:
    """What the function returns, run by process 1 of a pid namespace, with no capability. Raises CasemateError if it does not come to an end."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            _become_nobody(function, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        result = file.read()
    os.waitpid(child, 0)
    if not result:
        raise CasemateError("a process without privileges could not be started, or was ended")
    return result


def _become_nobody(function: Callable[[], bytes], writer: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    is_root = os.geteuid() == 0
    if libc.unshare(_OTHERS if is_root else _USER | _OTHERS):
        os._exit(1)
    first = os.fork()
    if first:
        os.close(writer)
        os.waitpid(first, 0)
        os._exit(0)
    signal.alarm(_TIMEOUT_S)  # for process 1 of a namespace the kernel ignores it unless it is handled
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    if is_root:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    if libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()):
        os._exit(1)
    os.write(writer, function())
    os._exit(0)

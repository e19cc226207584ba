"""bpf(2), as far as a device program on a v2 cgroup needs it. Imported only there: ctypes costs milliseconds."""

from __future__ import annotations

import ctypes
import errno
import os
from struct import pack, unpack_from

from casemate.errors import CgroupError

_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI = 2
_ATTR_SIZE = 120  # of union bpf_attr in 5.x; a longer or shorter one with zeros is accepted
_MAX_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
_LOG_SIZE = 16384


def _bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """Calls bpf(2). Returns its result and the attributes as the kernel left them. Raises OSError."""
    number = _SYSCALL_NUMBERS.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "bpf(2) is not known for this machine")
    buffer = ctypes.create_string_buffer(attributes, _ATTR_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(number), ctypes.c_long(command), ctypes.byref(buffer), ctypes.c_ulong(_ATTR_SIZE))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result), buffer.raw


def load_device_program(program: bytes) -> int:
    """Loads a program and returns its descriptor (the caller's). Raises OSError; CgroupError with the verifier's words."""
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = pack("=IIQQ", _TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(instructions), ctypes.addressof(licence))
    try:
        return _bpf(_PROG_LOAD, attributes)[0]
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        return _bpf(_PROG_LOAD, attributes + pack("=IIQ", 1, _LOG_SIZE, ctypes.addressof(log)))[0]
    except OSError as error:
        text = log.value.decode("utf-8", "replace").strip()[-300:]
        raise CgroupError(
            f"the kernel refuses the device program: {error.strerror}: {text}", controller="devices",
            errno=error.errno or 0,
        ) from error  # fmt: skip


def replace_device_programs(directory: str, program: bytes) -> None:
    """Makes `program` the only one of the cgroup's own. Raises OSError, CgroupError.

    The new one is attached before the old ones go: in between both must allow, so no device is open to the container that the final
    state denies.
    """
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = _attached(cgroup)
        new = load_device_program(program)
        try:
            _bpf(_PROG_ATTACH, pack("=IIII", cgroup, new, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(new)
        for program_id in old:
            _detach(cgroup, program_id)
    finally:
        os.close(cgroup)


def _attached(cgroup: int) -> list[int]:
    """The ids of the programs attached to this very cgroup."""
    ids = ctypes.create_string_buffer(4 * _MAX_PROGRAMS)
    attributes = pack("=IIIIQI", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MAX_PROGRAMS)
    _, answer = _bpf(_PROG_QUERY, attributes)
    count = int(unpack_from("=I", answer, 24)[0])
    return list(unpack_from(f"={count}I", ids.raw, 0))


def _detach(cgroup: int, program_id: int) -> None:
    program, _ = _bpf(_PROG_GET_FD_BY_ID, pack("=I", program_id))
    try:
        _bpf(_PROG_DETACH, pack("=III", cgroup, program, _ATTACH_CGROUP_DEVICE))
    finally:
        os.close(program)

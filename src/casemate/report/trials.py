"""Asks the kernel by doing: each trial runs in a process of its own, changes nothing outside it and says why it failed ("": it worked)."""

from __future__ import annotations

import ctypes
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NOBODY = 65534
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOUNT_ATTR_IDMAP = 1, 0x00100000
_SYS_SECCOMP, _SYS_IO_URING_SETUP, _SYS_OPEN_TREE, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 317, 425, 428, 437, 442
_SECCOMP_GET_NOTIF_SIZES = 3
_EFAULT, _EINVAL = 14, 22
_TIMEOUT_S = 10


def user_namespace() -> str:
    """A user namespace, as a user who is nobody in particular."""
    return _in_child(lambda: _enter_user_namespace(as_nobody=os.geteuid() == 0))


def overlay() -> str:
    """An overlay mount, in a mount namespace of its own; needs root."""

    def trial() -> None:
        _call("unshare", _CLONE_NEWNS)
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
        _mount_overlay("")

    return _in_child(trial)


def overlay_in_user_namespace() -> str:
    """An overlay mount by the root of a user namespace."""

    def trial() -> None:
        uid, gid = os.geteuid(), os.getegid()
        _enter_user_namespace(as_nobody=False, more=_CLONE_NEWNS)
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{file}", "w", encoding="ascii") as out:
                out.write(text)
        _mount_overlay("userxattr")

    return _in_child(trial)


def idmapped_mount(directory: str) -> str:
    """A mount of a directory's filesystem with other ids; needs root."""

    def trial() -> None:
        ready, is_mapped = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(is_mapped[1])  # else its own end would keep it waiting
            _enter_user_namespace(as_nobody=False)
            os.write(ready[1], b".")
            os.read(is_mapped[0], 1)
            os._exit(0)
        os.close(ready[1])
        try:
            os.read(ready[0], 1)
            for file in ("uid_map", "gid_map"):
                with open(f"/proc/{child}/{file}", "w", encoding="ascii") as out:
                    out.write("0 100000 65536")
            namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
            tree = _syscall(_SYS_OPEN_TREE, _AT_FDCWD, directory.encode(), _OPEN_TREE_CLONE)
            attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
            _syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.addressof(attributes), ctypes.sizeof(attributes))
        finally:
            os.close(is_mapped[1])
            os.waitpid(child, 0)

    return _in_child(trial)


def openat2() -> str:
    """openat2(2), which keeps a path below a directory."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, 0)
    return _in_child(lambda: _syscall(_SYS_OPENAT2, _AT_FDCWD, b"/", ctypes.addressof(how), ctypes.sizeof(how)))


def pidfd() -> str:
    """pidfd_open(2) and signalling through the descriptor."""

    return _in_child(lambda: signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0))


def seccomp_notify() -> str:
    """Filters whose answers another process gives."""
    sizes = (ctypes.c_uint16 * 3)()
    return _in_child(lambda: _syscall(_SYS_SECCOMP, _SECCOMP_GET_NOTIF_SIZES, 0, ctypes.addressof(sizes)))


def io_uring() -> str:
    """io_uring_setup(2): a pointer that it refuses says that it is there."""

    def trial() -> None:
        try:
            _syscall(_SYS_IO_URING_SETUP, 1, 0)
        except OSError as error:
            if error.errno not in (_EFAULT, _EINVAL):
                raise

    return _in_child(trial)


def _enter_user_namespace(*, as_nobody: bool, more: int = 0) -> None:
    if as_nobody:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _call("unshare", _CLONE_NEWUSER | more)


def _mount_overlay(option: str) -> None:
    """Over three directories of a fresh tmpfs."""
    _mount("tmpfs", "/tmp", "tmpfs", 0)
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"/tmp/{name}")
    options = ["lowerdir=/tmp/lower", "upperdir=/tmp/upper", "workdir=/tmp/work", *filter(None, [option])]
    _mount("overlay", "/tmp/merged", "overlay", 0, ",".join(options))


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None)


def _syscall(number: int, *arguments: int | bytes) -> int:
    return _call("syscall", ctypes.c_long(number), *(ctypes.c_long(word) if isinstance(word, int) else word for word in arguments))


def _call(function: str, *arguments: object) -> int:
    """A function of the C library. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    entry = libc[function]
    entry.restype = ctypes.c_long
    result: int = entry(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _in_child(trial: Callable[[], object]) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_TIMEOUT_S)
        try:
            trial()
        except OSError as error:
            os.write(writer, (error.strerror or "failed").encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return text or (f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "")

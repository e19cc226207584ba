"""Starts the engine with a plan and follows its reports until the program runs, waits for `start`, or failed."""

from __future__ import annotations

import errno
import fcntl
import os
from _socket import socketpair

from casemate import wire
from casemate.errors import EngineError, EngineMissing, WireError
from casemate.isolation.base import RECORDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

    from casemate.isolation.base import Handlers, Launch

_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL | SHRINK | GROW | WRITE (linux/fcntl.h)
_F_ADD_SEALS = 1033
_FIRST_FREE_FD = 3
_SEAL_TRIES = 20


def engine_path() -> str:
    """Where the package keeps the engine. Raises EngineMissing."""
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "_bin", "casemate-engine")
    if not os.access(path, os.X_OK):
        raise EngineMissing(f"no engine at {path}", "install the casemate wheel, or run `make setup` in a checkout")
    return path


def plan_memfd(plan: dict[str, object]) -> int:
    """The plan in a sealed memfd; the caller closes it."""
    data = wire.pack(plan)
    fd = os.memfd_create("casemate-plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
    os.lseek(fd, 0, os.SEEK_SET)
    _seal(fd)
    return fd


def _seal(fd: int) -> None:
    """Nobody writes this file any more. On a busy host a processor may still hold references to pages that were just written: the kernel waits 150 ms for
    them (mm/memfd.c, memfd_wait_for_pins) and then says EBUSY.
    """
    for _ in range(_SEAL_TRIES):
        try:
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
    fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)


def engine_is_out_of_reach(engine: str, plan: dict[str, object]) -> bool:
    """Whether no id of the container to come can write the engine's file: then it runs from there as it is.

    Otherwise it executes itself anew from a place that nobody can write (CVE-2019-5736), which costs another execve.

    That holds in a new user namespace that does not map the file's owner: its root has no rights over files of ids that it does not map.
    """
    maps = plan.get("id_maps")
    if not isinstance(maps, dict):
        return False
    status = os.stat(engine)
    for key, owner in (("uid", status.st_uid), ("gid", status.st_gid)):
        if any(first <= owner < first + size for _, first, size in maps[key]):
            return False
    return not status.st_mode & 0o022


def launch_engine(launch: Launch, *, boots: bool = False) -> int:
    """Runs the plan until the program runs or waits for `start`; returns the process's pid. Raises EngineError, EngineMissing, OSError.

    boots: a guest, meanwhile. A signal for the program then ends the start (Interrupted), where else it is kept: that may be minutes.
    """
    ours, theirs = socketpair()
    plan = plan_memfd(launch.plan)
    ops = launch.plan["ops"]
    assert isinstance(ops, list)
    in_advance = any(op.get("name") == RECORDED for op in ops)
    try:
        stage1 = _spawn(plan, theirs.fileno(), launch)
        theirs.close()
        try:
            return _follow(ours, launch.handlers, in_advance, boots)
        finally:
            _reap(stage1)
    finally:
        os.close(plan)
        ours.close()
        theirs.close()


def _spawn(plan: int, control: int, launch: Launch) -> int:
    engine = engine_path()
    protect = [] if engine_is_out_of_reach(engine, launch.plan) else ["--protect"]
    arguments = ["casemate-engine", "init", *protect, str(plan), str(control)]
    actions: list[tuple[int, ...]] = []
    stdio = [_above_stdio(fd) if fd != target else fd for target, fd in enumerate(launch.stdio)]
    for target, fd in enumerate(stdio):
        actions.append((os.POSIX_SPAWN_DUP2, fd, target))
    # dup2 onto itself clears close-on-exec in the child only: no other thread's child can inherit these descriptors.
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (plan, control, *launch.descriptors)]
    try:
        return os.posix_spawn(engine, arguments, {}, file_actions=actions)
    finally:
        for fd, given in zip(stdio, launch.stdio, strict=True):
            if fd != given:
                os.close(fd)


def _above_stdio(fd: int) -> int:
    """A copy of `fd` that later dup2 calls onto 0-2 cannot overwrite."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the embedding program reaps all children itself (SIGCHLD ignored)


def follow_start(channel: Socket, handlers: Handlers) -> None:
    """After `start` was sent: reports until end of stream, which means that the program was executed."""
    _follow(channel, handlers)


def _follow(channel: Socket, handlers: Handlers, in_advance: bool = False, boots: bool = False) -> int:
    """in_advance: the process's only barrier is answered once `child` returns, so that it need not wait for it."""
    pid = 0
    while True:
        # Once the process is known, which can then be ended.
        message, descriptors = _receive_or_break_off(channel) if boots and pid else wire.receive(channel)
        if message is None:
            return pid
        event = message.get("event")
        if event == "child":
            pid = _integer(message, "pid")
            handlers.child(pid)
            if in_advance:
                _continue(channel)
                handlers.meanwhile()
        elif event == "barrier":
            handlers.barrier(str(message.get("name")))
            if not in_advance:
                _continue(channel)
        elif event == "console" and len(descriptors) == 1:
            handlers.console(descriptors.pop())
        elif event == "seccomp_listener" and len(descriptors) == 1:
            handlers.seccomp_listener(descriptors.pop())
            _continue(channel)
        elif event == "ready":
            return pid
        elif event == "error":
            raise _engine_error(message)
        else:
            raise WireError(f"the engine sent an unexpected {event!r}")
        for fd in descriptors:
            os.close(fd)


def _receive_or_break_off(channel: Socket) -> tuple[dict[str, object] | None, list[int]]:
    from casemate.host.interruption import Wait

    with Wait():
        return wire.receive(channel)


def _continue(channel: Socket) -> None:
    try:
        wire.send(channel, {"command": "continue"})
    except BrokenPipeError:
        pass  # it died meanwhile; the next receive says how


def _integer(message: dict[str, object], key: str) -> int:
    value = message.get(key)
    if not isinstance(value, int):
        raise WireError(f"{key} is not an integer")
    return value


def _engine_error(message: dict[str, object]) -> EngineError:
    return EngineError(
        op=str(message.get("op") or ""),
        index=_integer(message, "index"),
        errno=_integer(message, "errno") if message.get("errno") is not None else 0,
        message=str(message.get("message")),
    )

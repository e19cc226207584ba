"""`exec`: a further process in a running container."""

from __future__ import annotations

import os

from casemate.errors import CasemateError, ContainerStateError
from casemate.host import process
from casemate.host.cgroup.opening import open_cgroup
from casemate.host.facts import host_facts
from casemate.isolation import registry
from casemate.isolation.base import Handlers, Launch
from casemate.oci.context import LowerContext
from casemate.oci.lower import lower_exec
from casemate.runtime import store
from casemate.runtime.container import CREATED, PAUSED, RUNNING
from casemate.runtime.seccomp_agent import send_listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.runtime.container import Container

# CLONE_NEW* by the names of /proc/PID/ns (linux/sched.h).
NAMESPACE_FLAGS = {
    "user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000,
    "cgroup": 0x2000000, "time": 0x80,
}  # fmt: skip


class ExecRequest:
    """What to run in the container. process: a checked OCI process object. console: takes the terminal's master."""

    __slots__ = ("console", "ignore_paused", "preserve_fds", "process", "stdio", "terminal_size")

    def __init__(self, process: dict[str, object]) -> None:
        self.process = process
        self.stdio = (0, 1, 2)
        self.console: Callable[[int], None] | None = None
        self.preserve_fds = 0
        self.ignore_paused = False
        self.terminal_size = (0, 0)


def exec_process(container: Container, request: ExecRequest) -> int:
    """Starts the process and returns its pid on the host; it is a child of this process. Raises ContainerStateError, EngineError."""
    status = container.need("exec in", CREATED, RUNNING, PAUSED)
    if status == PAUSED and not request.ignore_paused:
        raise ContainerStateError(container.id, "exec in", status, RUNNING)
    if status == CREATED and registry.get(container.record.isolation).has_control:
        raise ContainerStateError(container.id, "exec in", status, RUNNING)  # nobody is in there yet who could run it
    record = container.record
    pidfd = process.open_pidfd(record.pid, record.start_time)
    if pidfd is None:
        raise ContainerStateError(container.id, "exec in", "stopped", RUNNING)
    try:
        return _launch(container, request, pidfd)
    finally:
        os.close(pidfd)


def _launch(container: Container, request: ExecRequest, pidfd: int) -> int:
    spec = container.spec()
    record = container.record
    manager = container.cgroup()
    context = LowerContext(container_id=container.id, bundle=record.bundle, rootfs=record.rootfs, host=host_facts(manager.mode))
    context.preserve_fds = request.preserve_fds
    context.terminal_size = request.terminal_size
    opened: list[int] = []
    context.cgroup = open_cgroup(manager, opened)
    plan = lower_exec(spec, request.process, context)
    isolation = registry.get(record.isolation)
    if not isolation.has_control:
        plan["join"] = [{"kind": "pidfd", "fd": pidfd, "flags": foreign_namespaces(record.pid)}]
    started = [0]

    def on_child(pid: int) -> None:
        started[0] = pid

    def on_barrier(name: str) -> None:
        if name == "cgroup" and manager.scope is not None:
            manager.join(started[0], beside=record.pid)

    def on_console(fd: int) -> None:
        if request.console is None:
            os.close(fd)
            raise CasemateError("the process asks for a terminal and nobody takes it")
        request.console(fd)

    handlers = Handlers(
        child=on_child,
        barrier=on_barrier,
        console=on_console,
        seccomp_listener=lambda fd: send_listener(container, spec, fd),
    )
    descriptors = (pidfd, *opened, *range(3, 3 + request.preserve_fds))
    launch = Launch(plan, stdio=request.stdio, descriptors=descriptors, handlers=handlers)
    try:
        return isolation.exec(launch, container.entry.socket_path(store.CONTROL_SOCKET))
    finally:
        for fd in opened:
            os.close(fd)


def foreign_namespaces(pid: int) -> int:
    """CLONE_NEW* of the namespaces in which `pid` is and this process is not: joining one's own user namespace is an error."""
    flags = 0
    for name, flag in NAMESPACE_FLAGS.items():
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{name}")
            ours = os.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            flags |= flag
    return flags

"""`delete`: removes what is left of a container, whatever state a crash left it in."""

from __future__ import annotations

import _signal
import os

from casemate.errors import CasemateError, ContainerError, ContainerNotFound, ContainerStateError, EngineError, HookError
from casemate.host import process
from casemate.isolation import registry
from casemate.runtime import store
from casemate.runtime.container import CREATED, STOPPED, Container
from casemate.runtime.hooks import run_hooks
from casemate.runtime.scratch import close_all, remove_scratch, unmount_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DEATH_TIMEOUT_MS = 10_000


def delete(root: str, container_id: str, *, force: bool = False) -> list[str]:
    """Deletes a stopped or created container; with `force` one in any state. Returns warnings (failed poststop hooks).

    Raises ContainerNotFound, ContainerStateError (running and not `force`), CgroupError.
    """
    entry = store.open_entry(root, container_id)
    try:
        entry.lock()
        record = entry.load()
        if record is None:
            entry.remove()  # create was killed before it had made anything but the directory
            return []
        container = Container(entry, record)
        status = container.status() if record.pid else STOPPED
        if status not in (STOPPED, CREATED) and not force:
            raise ContainerStateError(container_id, "delete", status, "stopped (or use --force)")
        return destroy(container)
    finally:
        entry.close()


def destroy(container: Container, close: Callable[[list[int]], None] = close_all) -> list[str]:
    """Kills what runs and removes cgroup, scratch directories and state, in the order that leaves each step repeatable. close: see remove_scratch.

    The state goes last: if this process dies on the way, the next delete finds what is left.
    """
    record = container.record
    end_processes(container)
    if record.sandbox:
        _leave_sandbox(container)
    if record.cgroup:
        container.cgroup().destroy()
    if record.resctrl:
        from casemate.host import resctrl

        resctrl.leave(record.resctrl)
    if not record.has_mount_namespace and record.rootfs:
        unmount_below(record.rootfs)
    warnings = [*_release(container), *_poststop(container)]
    remove_scratch(record.scratch, close)
    container.entry.remove()
    return warnings


def end_processes(container: Container) -> None:
    """SIGKILLs the first process and, where there is no pid namespace that dies with it, all others; waits until they are gone."""
    record = container.record
    if record.pid and container.is_alive():
        pidfd = process.open_pidfd(record.pid, record.start_time)
        if pidfd is not None:
            try:
                _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
                _thaw(container)
                _wait_for_death(pidfd, record.pid, container.id)
            finally:
                os.close(pidfd)
    if record.cgroup and (not record.has_pid_namespace or container.cgroup().pids(all=True)):
        container.cgroup().kill_all(_signal.SIGKILL)


def _leave_sandbox(container: Container) -> None:
    record = container.record
    try:
        with Container.open(os.path.dirname(container.entry.path), record.sandbox) as sandbox:
            if sandbox.is_alive():
                registry.get(record.isolation).leave(record.id, sandbox.record.pid)
    except ContainerNotFound:
        pass  # it went with all that was in it


def _thaw(container: Container) -> None:
    if container.record.cgroup and container.cgroup().frozen():
        container.cgroup().thaw()


def _wait_for_death(pidfd: int, pid: int, container_id: str) -> None:
    import select  # 0.25 ms, and most deletes have nothing to wait for

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_DEATH_TIMEOUT_MS):
        raise CasemateError(f"container {container_id!r}: process {pid} did not end within 10 s of SIGKILL")
    try:
        os.waitpid(pid, os.WNOHANG)  # ours if this very process started it; else its reaper is the caller's subreaper
    except ChildProcessError:
        pass


def _release(container: Container) -> list[str]:
    isolation = registry.get(container.record.isolation)
    if not isolation.has_hypervisor:
        return []  # what it had is the kernel's to take back
    try:
        isolation.release(container.spec())
    except (ContainerError, EngineError) as error:
        return [str(error)]
    except FileNotFoundError:
        pass  # create was killed before it stored the specification
    return []


def _poststop(container: Container) -> list[str]:
    try:
        run_hooks(container, container.spec(), "poststop", STOPPED)
    except (HookError, ContainerError) as error:
        return [str(error)]  # runtime.md: a failed poststop hook is logged and the rest goes on
    except FileNotFoundError:
        pass  # create was killed before it stored the specification
    return []

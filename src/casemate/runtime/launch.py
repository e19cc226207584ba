"""Starts a container for `do` and the SDK: a specification made in memory, no bundle written by hand.

running = launch(spec, container_id="...", bundle=..., state_root=..., stdio=(0, 1, 2))
status = running.wait(timeout_s=5)        # None: still running
running.delete()
"""

from __future__ import annotations

import _signal
import os

from casemate.errors import CasemateError, ContainerStateError
from casemate.isolation.base import ExitStatus
from casemate.runtime.container import Container
from casemate.runtime.create import create, exceeded_memory_limit, memory_too_small
from casemate.runtime.request import CreateRequest
from casemate.runtime.scratch import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_END_S = 5.0


class Running:
    """A started container whose first process is a child of this process. Not thread-safe."""

    def __init__(self, container: Container, console_fd: int, pidfd: int) -> None:
        self.container = container
        self.console_fd = console_fd  # the terminal's master, the caller's to close; -1 without one
        self._pidfd = pidfd
        self._status: ExitStatus | None = None

    @property
    def pid(self) -> int:
        """The first process's pid on the host."""
        return self.container.record.pid

    @property
    def pidfd(self) -> int:
        """Readable once the process has ended; stays ours."""
        return self._pidfd

    def wait(self, timeout_s: float | None = None) -> ExitStatus | None:
        """How the process ended; None if it still runs after `timeout_s`. Reaps it."""
        if self._status is None and (timeout_s is None or self._wait_readable(timeout_s)):
            try:
                _, status = os.waitpid(self.pid, 0)
                self._status = ExitStatus.from_wait_status(status)
            except ChildProcessError:
                self._status = ExitStatus(255)  # the embedding program reaped it: how it ended is lost
        return self._status

    def _wait_readable(self, timeout_s: float) -> bool:
        import select  # 0.3 ms, and most callers wait without a limit

        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(max(0, int(timeout_s * 1000))))

    def kill(self, signal: int = _signal.SIGKILL) -> None:
        """Signals the first process; nothing if it has ended."""
        if self._status is None:
            try:
                _signal.pidfd_send_signal(self._pidfd, signal)
            except ProcessLookupError:
                pass

    def consumption(self) -> tuple[int, int]:
        """Processor time of the whole sandbox in ns, and the most memory that it had at once in bytes; until `delete`."""
        return self.container.cgroup().consumption()

    def oom_kills(self) -> int:
        """How often the kernel killed a process for the memory limit's sake."""
        from casemate.runtime import usage

        return usage.oom_kills(self.container)

    def delete(self, close: Callable[[list[int]], None] = close_all) -> None:
        """Ends what runs and removes cgroup, scratch directories and state. close: see runtime.scratch.remove_scratch."""
        from casemate.runtime.delete import destroy

        self.kill()
        self.wait()
        self.container.entry.lock()
        try:
            destroy(self.container, close)
        finally:
            self.detach()

    def detach(self) -> None:
        """Lets go of the container, which stays; another process finds it by its state directory."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.container.close()


def launch(
    spec: dict[str, object],
    *,
    container_id: str,
    bundle: str,
    state_root: str,
    stdio: tuple[int, int, int] = (0, 1, 2),
    isolation: str = "",
    use_agent: bool = False,
    scratch: list[str] | None = None,
    subuid: list[int] | None = None,
    name: str = "",
    terminal_size: tuple[int, int] = (0, 0),
    configure: Callable[[CreateRequest], None] | None = None,
) -> Running:
    """Creates and starts a container. On an error nothing is left behind, the scratch directories included.

    spec: already of the shape that oci.spec checks (ours, so not checked again).   bundle: what `root.path` is relative to.
    scratch: directories that go with the container.   configure: last changes of the request.
    Raises what `create` and `start` raise.
    """
    request = CreateRequest(container_id, spec, bundle, state_root)
    request.stdio = stdio
    request.isolation = isolation
    request.use_agent = use_agent
    request.scratch = scratch or []
    request.subuid = subuid or []
    request.name = name
    request.terminal_size = terminal_size
    master, pidfd = [-1], [-1]

    def take(fd: int) -> None:
        master[0] = fd

    def watch(pid: int) -> None:
        # Before it can end: an embedding program may reap all children itself.
        pidfd[0] = os.pidfd_open(pid)

    request.console = take
    request.recorded = watch
    request.at_once = True
    if configure:
        configure(request)
    try:
        container = create(request)
    except BaseException:
        if pidfd[0] >= 0:
            os.close(pidfd[0])
        raise
    running = None
    try:
        if not container.is_started:
            watch(container.record.pid)
        running = Running(container, master[0], pidfd[0])
        if not container.is_started:
            from casemate.runtime.start import start

            start(container)
    except BaseException as error:
        if running:
            if isinstance(error, ContainerStateError):
                # It is ending: what a guest's kernel has to say of memory is known once it has.
                running.wait(_END_S)
            os.close(running.pidfd)
        from casemate.runtime.delete import destroy

        limit = exceeded_memory_limit(container) if isinstance(error, CasemateError | ProcessLookupError) else 0
        destroy(container)
        container.close()
        if limit:
            raise memory_too_small(limit) from None
        raise
    container.unlock()
    return running

"""What every isolation offers: the interface that the runtime and the SDK are written against.

Only the files beside this one know how the isolations differ. Optional abilities (Pausable, Snapshottable, Resizable) are classes of their own that a
container may also derive from; ask with `isinstance`, there is no default method that raises.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Plan = dict[str, object]


# The barrier before a program that needs no `start`: that the process is in the container's record. It is answered as soon as it is, in advance.
RECORDED = "recorded"


class Verdict:
    """Whether this host can run an isolation; if not, `reason` and what would help (`remedy`)."""

    __slots__ = ("ok", "reason", "remedy")

    def __init__(self, ok: bool, reason: str = "", remedy: str = "") -> None:
        self.ok = ok
        self.reason = reason
        self.remedy = remedy


class ExitStatus:
    """How a process ended: `code` 0-255, or `signal` when it was killed by one (then `code` is None)."""

    __slots__ = ("code", "signal")

    def __init__(self, code: int | None, signal: int | None = None) -> None:
        self.code = code
        self.signal = signal

    @property
    def shell_code(self) -> int:
        """The code a shell would report: 128 + n for signal n."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    @classmethod
    def from_wait_status(cls, status: int) -> ExitStatus:
        """From waitpid(2)'s status of an ended process."""
        signal = status & 0x7F
        return cls(None, signal) if signal else cls(status >> 8 & 0xFF)


class Handlers:
    """What the starter does when a process being started reports. Each is called on the caller's thread, in the order of the plan.

    child(pid): the process exists and waits.   barrier(name): it waits until this returns.   console(fd), seccomp_listener(fd): the callee owns fd.
    meanwhile(): where the only barrier was answered in advance, the process is on its way, and nobody waits for the starter.
    """

    __slots__ = ("barrier", "child", "console", "meanwhile", "seccomp_listener")

    def __init__(
        self,
        *,
        child: Callable[[int], None],
        barrier: Callable[[str], None],
        console: Callable[[int], None],
        seccomp_listener: Callable[[int], None],
    ) -> None:
        self.child = child
        self.barrier = barrier
        self.console = console
        self.seccomp_listener = seccomp_listener
        self.meanwhile: Callable[[], None] = _nothing


def _nothing() -> None:
    """For who has nothing to do."""


class Launch:
    """One process to start: its plan, its stdio (three descriptors) and the further descriptors that the plan names by number.

    cgroup_files: descriptors of the cgroup's files by Manager.limit_files's names, for an isolation that shows the program its limits.
    is_pod: further containers will join (oci/pods.py).
    agent_fd: with the plan's `agent`, the socket that it listens on, where that is not the plan's `listen` (an isolation with control).
    report_fd: where it is written at the end how often a guest's kernel killed for the memory limit, for an isolation with a kernel of its own.
    container_id: of the container; of `create` and `join` only.
    strace: what `traces_calls` is asked to show, as the plan has it (runtime/strace.py).
    spec: the specification that the plan was lowered from, for an isolation that makes more than processes.
    """

    __slots__ = (
        "agent_fd", "cgroup_files", "container_id", "descriptors", "handlers", "is_pod", "plan", "report_fd", "spec", "stdio", "strace",
    )  # fmt: skip

    def __init__(
        self, plan: Plan, *, stdio: tuple[int, int, int], descriptors: tuple[int, ...], handlers: Handlers, spec: dict[str, object] | None = None
    ) -> None:
        self.plan = plan
        self.spec = spec or {}
        self.stdio = stdio
        self.descriptors = descriptors
        self.handlers = handlers
        self.agent_fd = -1
        self.report_fd = -1
        self.container_id = ""
        self.is_pod = False
        self.cgroup_files: dict[str, int] = {}
        self.strace: dict[str, object] | None = None


class PodSandbox:
    """The running sandbox that a further container of its pod joins. control_path: the socket that it listens on.   pid: its first process, on the host."""

    __slots__ = ("control_path", "pid")

    def __init__(self, control_path: str, pid: int) -> None:
        self.control_path = control_path
        self.pid = pid


class Isolation:
    """A wall. Stateless: what a later process needs stands in the container's state."""

    name = ""
    starts_at_once = False  # `create` takes a plan without `await_start`, whose program runs when it returns
    has_control = False  # a running container listens on the store's CONTROL_SOCKET
    traces_calls = False  # it sees system calls, so that they can be shown and counted
    has_own_kernel = False  # of Linux: a container's cgroups are that kernel's (v2), whatever the host has
    has_hypervisor = False  # it starts machines: which of several programs runs them is chosen, and told (hypervisor/registry.py)
    shows_limits = False  # it is handed the cgroup's files (Launch.cgroup_files)
    serves_pods = False  # containers of one pod share a sandbox (oci/pods.py): there is a `join`

    def probe(self) -> Verdict:
        """Whether this host can run it. Cheap: called at each create."""
        raise NotImplementedError

    def host_resources(self, resources: dict[str, object]) -> dict[str, object]:
        """`linux.resources` as they hold for the container's cgroup on the host."""
        return resources

    def create(self, launch: Launch) -> int:
        """Builds the container up to the point before its program and returns the pid of its first process, on the host.

        Raises EngineError (an operation failed; nothing is left running), HostError.
        """
        raise NotImplementedError

    def join(self, launch: Launch, sandbox: PodSandbox) -> int:
        """As `create`, for a further container of a pod, in the sandbox of its first. Only where `serves_pods`."""
        raise NotImplementedError

    def leave(self, container_id: str, sandbox_pid: int) -> None:
        """Takes back what `join` put into the sandbox whose first process is `sandbox_pid`, after the container's end."""

    def release(self, spec: dict[str, object]) -> None:
        """Takes back what a container with this specification had in namespaces of others, after its end. Repeatable."""

    def start(self, channel_path: str, handlers: Handlers, pid: int) -> None:
        """Lets the created container behind the Unix socket execute its program; returns when it runs. Raises EngineError.

        pid: the container's first process, on the host.
        """
        raise NotImplementedError

    def exec(self, launch: Launch, channel_path: str) -> int:
        """Starts a further process in a running container (the plan says which) and returns its pid on the host.

        channel_path: the container's control socket, where the isolation has one. Raises EngineError, HostError.
        """
        raise NotImplementedError

"""What the lowering is told besides the specification: the host, the runtime's options, and how to open what the plan names by descriptor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.host.facts import HostFacts


class LowerContext:
    """One lowering. cgroup_mounts: what Manager.mounts() returned. open_namespace(path): a descriptor that the caller closes."""

    __slots__ = (
        "at_once",
        "bundle",
        "cgroup", "cgroup_mounts", "container_id", "die_with_parent", "host", "landlock", "listen_fd", "no_new_keyring", "no_pivot", "open_namespace",
        "overlay", "preserve_fds",
        "rootfs", "state_json", "terminal_size", "use_agent",
    )  # fmt: skip

    def __init__(self, *, container_id: str, bundle: str, rootfs: str, host: HostFacts) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.rootfs = rootfs
        self.host = host
        self.cgroup: dict[str, object] | None = None  # descriptors to join by: {tasks: [fd], into: fd or None}
        self.overlay: dict[str, object] | None = None  # {lower, upper, work}: the root is this overlay
        self.cgroup_mounts: list[dict[str, object]] = []
        self.no_pivot = False
        self.no_new_keyring = False
        self.listen_fd: int | None = None
        self.preserve_fds = 0
        self.use_agent = False
        self.at_once = False  # nobody says `start`: the program runs once its process is recorded
        self.die_with_parent = False  # SIGKILL when the thread that started it ends
        self.landlock: dict[str, object] | None = None  # {read_only, read_write}: paths of the container
        self.terminal_size = (0, 0)  # columns, rows
        self.open_namespace: Callable[[str], int] = _cannot_open
        self.state_json: Callable[[str], str] = lambda status: "{}"

    @property
    def config_file(self) -> str:
        """For errors about fields that this host cannot do."""
        return f"{self.bundle}/config.json"


def _cannot_open(path: str) -> int:
    raise LookupError(f"this lowering opens no namespaces: {path}")

"""The order of a plan: the one place for it. Operations of one phase keep the order in which they were added."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.context import LowerContext

VERSION = 1


class Phase:
    """Why each phase stands where it stands; runc's function in brackets."""

    IDENTITY = 10  # root of the new user namespace first: all that follows needs its capabilities [nsexec.c]
    SESSION = 20  # session and keyring before anything is mounted: a keyring that the runtime's own can be read from must not be there [Init]
    NETWORK = 30  # loopback needs CAP_NET_ADMIN in the namespace [setupNetwork]
    CGROUP_BARRIER = 40  # the starter puts the process into its cgroups before a cgroup namespace takes them as its root [nsexec.c]
    CGROUP_NAMESPACE = 50
    PROPAGATION = 60  # before the first mount, so that none travels to the host [prepareRoot]
    ROOT = 70
    MOUNTS = 80  # in the specification's order [prepareRootfs]
    CREATE_RUNTIME = 90  # prestart and createRuntime hooks: namespaces and mounts exist, the root is still the host's [prepareRootfs]
    DEVICES = 100  # after the mounts: /dev is one of them [createDevices]
    CONSOLE = 110  # needs devpts, and the host's view to open what it binds [setupConsole]
    CREATE_CONTAINER = 120  # createContainer hooks: paths of the runtime, namespaces of the container [prepareRootfs]
    PIVOT = 130
    ROOT_PROPAGATION = 140  # on the new root [pivotRoot, finalizeRootfs]
    NAMES = 150  # host name before the paths below may be read-only [Init]
    SYSCTL = 160  # before /proc/sys is read-only [Init]
    READONLY_PATHS = 170
    MASKED_PATHS = 180
    READONLY_ROOT = 190  # after all that is made in it [finalizeRootfs]
    LIMITS = 200  # while raising them is still permitted [setupRlimits]
    LABELS = 210  # written to /proc/self/attr, which needs no capability but a /proc [Init]
    NO_NEW_PRIVILEGES = 220
    FIND_PROGRAM = 230  # a missing program fails at create, as engines expect [Init: exec.LookPath before the FIFO]
    AWAIT_START = 240
    START_CONTAINER = 250  # startContainer hooks: just before the program, in its namespaces
    SECCOMP_EARLY = 260  # without no_new_privs a filter needs CAP_SYS_ADMIN, which is dropped next [finalizeNamespace]
    CREDENTIALS = 270
    WORKING_DIRECTORY = 280  # as the user: a directory only it may enter [finalizeNamespace]
    LANDLOCK = 290
    SECCOMP = 300  # as late as possible: the profile need not allow what we do
    PROGRAM = 310


class PlanBuilder:
    """Collects operations and what else a plan holds."""

    def __init__(self, context: LowerContext) -> None:
        self.context = context
        self.join: list[dict[str, object]] = []
        self.new: list[str] = []
        self.id_maps: dict[str, object] | None = None
        self.oom_score_adj: int | None = None
        self.keep_fds: list[int] = []
        self._ops: list[tuple[int, dict[str, object]]] = []

    def add(self, phase: int, op: str, **arguments: object) -> None:
        """Adds one operation of docs/design/plan.md."""
        self._ops.append((phase, {"op": op, **arguments}))

    def build(self) -> dict[str, object]:
        """The plan, its operations sorted by phase (stably)."""
        self._ops.sort(key=lambda entry: entry[0])
        return {
            "version": VERSION,
            "join": self.join,
            "new": self.new,
            "id_maps": self.id_maps,
            "oom_score_adj": self.oom_score_adj,
            "listen": self.context.listen_fd,
            "cgroup": self.context.cgroup,
            "keep_fds": self.keep_fds,
            "ops": [op for _, op in self._ops],
        }

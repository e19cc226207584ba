"""What `create` is asked for."""

from __future__ import annotations

import os

from casemate.errors import ContainerNotFound, SpecError, UsageError
from casemate.isolation import registry
from casemate.oci import pods
from casemate.runtime import store
from casemate.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.runtime.strace import Strace

ISOLATION_ANNOTATION = "dev.casemate.isolation"
STRACE_ANNOTATION, STRACE_VARIABLE = "dev.casemate.strace", "CASEMATE_STRACE"


class CreateRequest:
    """All that `create` and `run` (and the SDK) say about a new container.

    spec: checked.   bundle: absolute.   stdio: three descriptors, which stay the caller's.   console: takes the terminal's master.
    isolation: "" for the annotation's, the configuration's or the default.   preserve_fds: descriptors 3.. the program inherits.
    scratch: directories to remove with the container.   use_agent: process 1 is the agent, not the spec's program.
    at_once: `start` follows anyway, so the program may run when `create` returns (Container.is_started), where nobody can tell the difference.
    recorded: called with the first process's pid once that is recorded, before the program runs.
    """

    __slots__ = (
        "at_once", "bundle", "console", "container_id", "die_with_parent", "isolation", "landlock", "name", "no_new_keyring", "no_pivot",
        "overlay", "preserve_fds", "recorded", "rootless",
        "scratch", "spec", "state_root", "stdio", "strace", "subuid", "systemd_cgroup", "terminal_size", "use_agent",
    )  # fmt: skip

    def __init__(self, container_id: str, spec: dict[str, object], bundle: str, state_root: str) -> None:
        self.container_id = container_id
        self.spec = spec
        self.bundle = bundle
        self.state_root = state_root
        self.stdio = (0, 1, 2)
        self.console: Callable[[int], None] | None = None
        self.isolation = ""
        self.preserve_fds = 0
        self.no_pivot = False
        self.no_new_keyring = False
        self.systemd_cgroup = False
        self.rootless = os.geteuid() != 0
        self.scratch: list[str] = []
        self.subuid: list[int] = []
        self.name = ""
        self.use_agent = False
        self.die_with_parent = False
        self.landlock: dict[str, object] | None = None  # {read_only, read_write}: paths of the container
        self.overlay: dict[str, object] | None = None  # {lower, upper, work}: the root is this overlay
        self.terminal_size = (0, 0)
        self.strace: Strace | None = None
        self.at_once = False
        self.recorded: Callable[[int], None] | None = None


def choose_isolation(request: CreateRequest) -> str:
    """`--isolation`, else the annotation, else that of the pod's sandbox, else the configuration file, else the default."""
    annotations = request.spec.get("annotations")
    annotated = annotations.get(ISOLATION_ANNOTATION) if isinstance(annotations, dict) else None
    if request.isolation or annotated:
        return request.isolation or str(annotated)
    place = pods.place_in_pod(request.spec)
    if place.sandbox_id:
        try:
            with Container.open(request.state_root, store.check_id(place.sandbox_id)) as sandbox:
                return sandbox.record.isolation
        except (ContainerNotFound, UsageError):
            pass  # a pod of isolations that share nothing
    from casemate.configuration import configured

    return str(configured("isolation") or registry.DEFAULT)


def rootfs_path(spec: dict[str, object], bundle: str) -> str:
    """The absolute path of `root.path`. Raises SpecError if it is no directory."""
    root = spec.get("root")
    path = str(root["path"]) if isinstance(root, dict) else ""
    absolute = os.path.realpath(os.path.join(bundle, path))
    if not path or not os.path.isdir(absolute):
        file = os.path.join(bundle, store.CONFIG_FILE)
        raise SpecError(file=file, json_path="root.path", value=path, expected="the path of a directory")
    return absolute

"""`create`: from a checked specification to a process that waits for `start`.

Order, so that a kill at any instant leaves something `delete --force` can finish:
the directory, the record (with the cgroup to come), the cgroup, the process (recorded while it waits at its first barrier), `created`.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate import jsonlite
from casemate.errors import CasemateError, ContainerNotFound, ContainerStateError, HostError, SpecError, UsageError
from casemate.host import process
from casemate.host.cgroup import open_manager
from casemate.host.facts import host_facts
from casemate.isolation import registry
from casemate.isolation.base import RECORDED, Handlers, Launch, PodSandbox
from casemate.oci import pods
from casemate.oci.context import LowerContext
from casemate.oci.lower import lower_create
from casemate.runtime import store
from casemate.runtime.container import CREATED, CREATING, RUNNING, Container, now_rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.host.cgroup import Manager
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


def create(request: CreateRequest) -> Container:
    """Creates a container and returns it locked and open. On any error nothing is left behind.

    Raises ContainerExists, SpecError, HostError, CgroupError, EngineError, HookError.
    """
    isolation = registry.require(choose_isolation(request))
    entry = store.reserve(request.state_root, request.container_id)
    record = _new_record(request, isolation.name)
    container = Container(entry, record)
    try:
        _Creation(request, container).run()
    except BaseException as error:
        limit = exceeded_memory_limit(container) if request.at_once and isinstance(error, CasemateError | ProcessLookupError) else 0
        _undo(container)
        if limit:
            raise memory_too_small(limit) from None
        raise
    return container


def exceeded_memory_limit(container: Container) -> int:
    """The memory limit in bytes, if it is why a container's first process did not come to its program; else 0."""
    from casemate.runtime import usage

    try:
        linux = container.spec().get("linux")
        resources = linux.get("resources") if isinstance(linux, dict) else None
        memory = resources.get("memory") if isinstance(resources, dict) else None
        limit = memory.get("limit") if isinstance(memory, dict) else None
        return limit if isinstance(limit, int) and limit > 0 and usage.oom_kills(container) else 0
    except (CasemateError, OSError):
        return 0


def memory_too_small(limit: int) -> UsageError:
    return UsageError(f"memory: the limit of {limit} bytes is too small to start a program: out of memory")


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


def _new_record(request: CreateRequest, isolation: str) -> store.Record:
    record = store.Record(request.container_id)
    record.isolation = isolation
    record.bundle = request.bundle
    record.created = now_rfc3339()
    record.scratch = request.scratch
    record.subuid = request.subuid
    record.name = request.name
    record.oci_version = str(request.spec.get("ociVersion") or record.oci_version)
    annotations = request.spec.get("annotations")
    record.annotations = dict(annotations) if isinstance(annotations, dict) else {}
    return record


def _undo(container: Container) -> None:
    from casemate.runtime.delete import destroy

    try:
        destroy(container)
    except (OSError, CasemateError):
        pass  # the first error is the one to show; `delete --force` can try again, the record is there
    finally:
        container.close()


def _prepare_end() -> None:
    """What the end will need is loaded while nothing else is to be done (0.8 ms)."""
    from casemate.runtime import delete  # noqa: F401


class _Creation:
    """The steps of one create; what they share."""

    def __init__(self, request: CreateRequest, container: Container) -> None:
        self.request = request
        self.container = container
        self.entry = container.entry
        self.descriptors: list[int] = []
        spec = request.spec
        linux = spec.get("linux")
        self.linux: dict[str, object] = linux if isinstance(linux, dict) else {}
        self.namespaces = [str(item["type"]) for item in self.linux.get("namespaces") or []]  # type: ignore[attr-defined]
        isolation = registry.get(container.record.isolation)
        is_alone = not pods.place_in_pod(spec).kind
        self.at_once = request.at_once and isolation.starts_at_once and is_alone and not spec.get("hooks") and not request.systemd_cgroup
        self.is_prepared = False

    def run(self) -> None:
        request, record = self.request, self.container.record
        record.rootfs = rootfs_path(request.spec, request.bundle)
        record.has_pid_namespace = "pid" in self.namespaces
        record.has_mount_namespace = "mount" in self.namespaces
        sandbox = self._open_sandbox()
        try:
            self._build(sandbox)
        finally:
            if sandbox:
                sandbox.close()

    def _build(self, sandbox: Container | None) -> None:
        request, record = self.request, self.container.record
        if not self.at_once:
            self.container.store_spec(request.spec)
        manager = self._cgroup()
        listener = self._listen()
        agent = self._listen_for_agent()
        try:
            context = self._context(manager, listener.fileno() if listener else None)
            context.cgroup = open_cgroup(manager, self.descriptors)
            plan = lower_create(request.spec, context)
            limits = self._limit_files(manager)
            strace = self._strace()
            descriptors = (*self.descriptors, *self._preserved())
            if listener:
                descriptors = (*descriptors, listener.fileno())
            handlers = Handlers(
                child=lambda pid: self._on_child(pid, manager),
                barrier=lambda name: self._on_barrier(name, manager),
                console=self._on_console,
                seccomp_listener=self._on_listener,
            )
            handlers.meanwhile = _prepare_end
            if agent:
                descriptors = (*descriptors, agent.fileno())
            launch = Launch(plan, stdio=request.stdio, descriptors=descriptors, handlers=handlers, spec=request.spec)
            launch.container_id = request.container_id
            if registry.get(record.isolation).has_own_kernel and not sandbox:
                launch.report_fd = self._report()
                launch.descriptors = (*descriptors, launch.report_fd)
            launch.cgroup_files = limits
            launch.strace = strace
            launch.is_pod = pods.place_in_pod(request.spec).kind == pods.SANDBOX
            if agent:
                launch.agent_fd = agent.fileno()
            isolation = registry.get(record.isolation)
            if sandbox:
                isolation.join(launch, PodSandbox(sandbox.entry.socket_path(store.CONTROL_SOCKET), sandbox.record.pid))
            else:
                isolation.create(launch)
            if self.at_once and not self.is_prepared:
                raise ContainerStateError(request.container_id, "start", "stopped", CREATED)  # it was killed on the way
            self.container.is_started = self.at_once
        finally:
            if listener:
                listener.close()
            if agent:
                agent.close()
            for fd in self.descriptors:
                os.close(fd)

    def _open_sandbox(self) -> Container | None:
        """The pod's first container, if this one joins its sandbox: its isolation serves pods. Raises HostError."""
        request, record = self.request, self.container.record
        if not registry.get(record.isolation).serves_pods:
            return None
        place = pods.place_in_pod(request.spec)
        if place.kind != pods.CONTAINER:
            return None
        sandbox = open_sandbox(request.state_root, place.need_sandbox_id(os.path.join(request.bundle, store.CONFIG_FILE)))
        record.sandbox = sandbox.id
        try:
            need_sandbox(sandbox, record.isolation)
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    def _cgroup(self) -> Manager:
        request, record = self.request, self.container.record
        path = self.linux.get("cgroupsPath")
        manager = open_manager(str(path) if path else None, request.container_id, systemd=request.systemd_cgroup, rootless=request.rootless)
        record.cgroup = manager.to_state()
        self.entry.save(record)
        manager.create()
        record.cgroup = manager.to_state()
        resources = self._resources()
        manager.apply_limits(resources)
        if not self.at_once:
            manager.apply_devices(resources)
        return manager

    def _resources(self) -> dict[str, object]:
        resources = self.linux.get("resources")
        return registry.get(self.container.record.isolation).host_resources(resources if isinstance(resources, dict) else {})

    def _report(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(store.REPORT_FILE, flags, 0o600, dir_fd=self.entry.fd)
        self.descriptors.append(fd)
        return fd

    def _listen(self) -> socket | None:
        has_control = registry.get(self.container.record.isolation).has_control
        kept = store.CONTROL_SOCKET if has_control else store.AGENT_SOCKET if self.request.use_agent else ""
        name = kept if self.at_once else store.START_SOCKET
        if not name:
            return None
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        listener.bind(self.entry.socket_path(name))
        listener.listen(128)
        # A second name for the same socket, which goes on to be used: the first one's absence says that the container was started.
        if kept and not self.at_once:
            os.link(store.START_SOCKET, kept, src_dir_fd=self.entry.fd, dst_dir_fd=self.entry.fd)
        return listener

    def _listen_for_agent(self) -> socket | None:
        """The agent's socket, where the container's other one stays the isolation's own."""
        if not self.request.use_agent or not registry.get(self.container.record.isolation).has_control:
            return None
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        listener.bind(self.entry.socket_path(store.AGENT_SOCKET))
        listener.listen(128)
        return listener

    def _context(self, manager: Manager, listen_fd: int | None) -> LowerContext:
        request = self.request
        context = LowerContext(
            container_id=request.container_id,
            bundle=request.bundle,
            rootfs=self.container.record.rootfs,
            host=host_facts(manager.mode),
        )
        has_own_kernel = registry.get(self.container.record.isolation).has_own_kernel
        context.cgroup_mounts = [{"kind": "v2"}] if has_own_kernel else manager.mounts("cgroup" in self.namespaces)
        context.no_pivot = request.no_pivot
        context.overlay = request.overlay
        context.no_new_keyring = request.no_new_keyring
        context.listen_fd = listen_fd
        context.at_once = self.at_once
        context.preserve_fds = request.preserve_fds
        context.use_agent = request.use_agent
        context.die_with_parent = request.die_with_parent
        context.landlock = request.landlock
        context.terminal_size = request.terminal_size
        context.open_namespace = self._open_namespace
        context.state_json = lambda status: jsonlite.dumps(self.container.state(status))
        return context

    def _open_namespace(self, path: str) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.descriptors.append(fd)
        return fd

    def _limit_files(self, manager: Manager) -> dict[str, int]:
        """The cgroup's files, for an isolation that shows the program its limits. Those that are not there yet (systemd makes them) are left out."""
        opened: dict[str, int] = {}
        if not registry.get(self.container.record.isolation).shows_limits:
            return opened
        for name, path in manager.limit_files().items():
            try:
                opened[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            self.descriptors.append(opened[name])
        return opened

    def _strace(self) -> dict[str, object] | None:
        if not self.request.strace and STRACE_ANNOTATION not in self.container.record.annotations and STRACE_VARIABLE not in os.environ:
            return None
        from casemate.runtime.strace import of_container

        isolation = registry.get(self.container.record.isolation)
        asked = of_container(self.request.strace, self.request.spec, isolation.name, can_trace=isolation.traces_calls)
        return asked.in_plan(self.descriptors) if asked else None

    def _preserved(self) -> tuple[int, ...]:
        return tuple(range(3, 3 + self.request.preserve_fds))

    def _on_child(self, pid: int, manager: Manager) -> None:
        record = self.container.record
        record.pid = pid
        record.start_time = process.start_time(pid)
        if self.at_once:
            # While it makes its mounts. It comes to its program only after this returns.
            self._resctrl(record)
            self.entry.save(record)
            manager.apply_devices(self._resources())
            self.container.store_spec(self.request.spec)
            if self.request.recorded:
                self.request.recorded(pid)

    def _on_barrier(self, name: str, manager: Manager) -> None:
        record = self.container.record
        if name == RECORDED:
            self.is_prepared = True  # answered in advance
        elif name == "cgroup":
            if manager.scope is not None:
                manager.join(record.pid)
                record.cgroup = manager.to_state()
            self._resctrl(record)
            self.entry.save(record)
        elif name == "createRuntime":
            from casemate.runtime.hooks import run_hooks

            run_hooks(self.container, self.request.spec, "prestart", CREATING)
            run_hooks(self.container, self.request.spec, "createRuntime", CREATING)
        else:
            raise CasemateError(f"the engine waits at an unknown barrier {name!r}")

    def _resctrl(self, record: store.Record) -> None:
        settings = self.linux.get("intelRdt")
        if isinstance(settings, dict):
            from casemate.host import resctrl

            record.resctrl = resctrl.join(settings, record.id, record.pid)

    def _on_listener(self, fd: int) -> None:
        from casemate.runtime.seccomp_agent import send_listener

        send_listener(self.container, self.request.spec, fd)

    def _on_console(self, fd: int) -> None:
        if self.request.console is None:
            os.close(fd)
            raise SpecError(file=store.CONFIG_FILE, json_path="process.terminal", value=True, expected="false, or a console socket")
        self.request.console(fd)


def open_sandbox(state_root: str, sandbox_id: str) -> Container:
    """A pod's first container. Raises HostError if there is none."""
    try:
        return Container.open(state_root, store.check_id(sandbox_id))
    except ContainerNotFound:
        raise HostError(f"no container {sandbox_id!r} below {state_root}, whose sandbox is to be joined", "create and start the pod's sandbox first") from None


def need_sandbox(sandbox: Container, isolation: str) -> None:
    """Raises HostError if it cannot be joined with this isolation, now."""
    record = sandbox.record
    if record.isolation != isolation:
        raise HostError(f"the pod's sandbox {sandbox.id!r} has the isolation {record.isolation!r}", f"use it for this container, too, not {isolation!r}")
    status = sandbox.status()
    if status != RUNNING:
        raise HostError(f"the pod's sandbox {sandbox.id!r} is {status}", "create and start it first")


def open_cgroup(manager: Manager, descriptors: list[int]) -> dict[str, object] | None:
    """The cgroup's files as the plan takes them, added to `descriptors`; None where systemd moves the process (at the barrier)."""
    if manager.scope is not None:
        return None
    tasks, directory = manager.join_files()
    first = len(descriptors)
    for path in tasks:  # one by one: what is open when the next fails is the caller's to close
        descriptors += (os.open(path, os.O_WRONLY | os.O_CLOEXEC),)
    opened = descriptors[first:]
    into = None
    if directory:
        into = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        descriptors.append(into)
    return {"tasks": opened, "into": into}


def write_pid_file(path: str, pid: int) -> None:
    """Writes a pid by rename, so that a watcher never reads an empty file."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)

"""The steps of one create."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate import jsonlite
from casemate.errors import CasemateError, ContainerStateError, SpecError
from casemate.host import process
from casemate.host.cgroup import open_manager
from casemate.host.cgroup.opening import open_cgroup
from casemate.host.facts import host_facts
from casemate.isolation import registry
from casemate.isolation.base import RECORDED, Handlers, Launch, PodSandbox
from casemate.oci import pods
from casemate.oci.context import LowerContext
from casemate.oci.lower import lower_create
from casemate.runtime import store
from casemate.runtime.container import CREATED, CREATING
from casemate.runtime.pod_sandbox import need_sandbox, open_sandbox
from casemate.runtime.request import STRACE_ANNOTATION, STRACE_VARIABLE, rootfs_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.host.cgroup import Manager
    from casemate.runtime.container import Container
    from casemate.runtime.request import CreateRequest


class Creation:
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
        listener = self._bind(name)
        # A second name for the same socket, which goes on to be used: the first one's absence says that the container was started.
        if kept and not self.at_once:
            os.link(store.START_SOCKET, kept, src_dir_fd=self.entry.fd, dst_dir_fd=self.entry.fd)
        return listener

    def _listen_for_agent(self) -> socket | None:
        """The agent's socket, where the container's other one stays the isolation's own."""
        if not self.request.use_agent or not registry.get(self.container.record.isolation).has_control:
            return None
        return self._bind(store.AGENT_SOCKET)

    def _bind(self, name: str) -> socket:
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        listener.bind(self.entry.socket_path(name))
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


def _prepare_end() -> None:
    """What the end will need is loaded while nothing else is to be done (0.8 ms)."""
    from casemate.runtime import delete  # noqa: F401

"""One sandbox as both SDKs see it: made or found, asked, ended. Blocking; the asynchronous SDK calls it on threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from casemate import jsonlite
from casemate.configuration import configured
from casemate.errors import ContainerNotFound, ContainerStateError, SandboxError, SandboxNotFound, UsageError, WireError
from casemate.isolation import registry
from casemate.policy.hardened import DEFAULT_PIDS, Options
from casemate.policy.ids import lend
from casemate.policy.users import find_user
from casemate.runtime import store, usage
from casemate.runtime.collect import collect
from casemate.runtime.container import RUNNING, Container
from casemate.runtime.delete import delete
from casemate.runtime.launch import Running
from casemate.runtime.sandbox import Start, show_program, start_sandbox
from casemate.sdk._agent import Agent
from casemate.sdk._replies import argument, environment
from casemate.sdk.types import Metrics, SandboxInfo

ANNOTATION = "dev.casemate.sandbox"
DEFAULT_TIMEOUT_S = 300.0
HOME = "/home/user"
_PREFIX = "sbx-"
# The agent's, over its own user namespace only (docs/design/agent.md).
_AGENT_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"]
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(kw_only=True)
class Settings:
    """What a sandbox is made of; see `Sandbox.create`."""

    rootfs: str = ""
    isolation: str = ""
    timeout: float | None = DEFAULT_TIMEOUT_S
    metadata: Mapping[str, str] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)
    binds: Sequence[tuple[str, str] | tuple[str, str, str]] = ()
    memory: int | str = 0
    cpus: float = 0.0
    pids: int = DEFAULT_PIDS
    network: str = "none"
    user: str | None = None
    cwd: str = HOME
    show: Sequence[str] = ("python3",)
    root_image: str = "auto"
    state_root: str = ""

    def options(self, state_root: str) -> Options:
        """For the runtime. Raises SandboxError for a value that is none."""
        options = Options([])
        options.rootfs = os.path.abspath(self.rootfs) if self.rootfs else ""
        if options.rootfs and not os.path.isdir(options.rootfs):
            raise SandboxError(f"rootfs: {options.rootfs} is not a directory")
        if self.network not in ("none", "host"):
            raise SandboxError(f"network: expected 'none' or 'host', got {self.network!r}")
        for name, value, kinds in (("cpus", self.cpus, (int, float)), ("pids", self.pids, (int,))):
            if not isinstance(value, kinds):
                raise SandboxError(f"{name}: expected a number, got {value!r}")
        if self.cpus < 0 or self.pids < 0:
            raise SandboxError("cpus and pids: expected 0 (no limit) or more")
        environment(dict(self.envs))
        options.memory = size_bytes(self.memory)
        options.cpus = float(self.cpus)
        options.pids = self.pids
        options.network = self.network
        options.binds = [_bind(bind) for bind in self.binds]
        options.environment = {"HOME": HOME, **self.envs}
        with sandbox_errors():
            options.check_limits()
        options.lent = lend(state_root)
        if not options.rootfs:
            for name in self.show:
                show_program(options, name, os.environ.get("PATH", "/usr/bin:/bin"))
        return options


def choose_root(settings: Settings, options: Options, how: Start) -> None:
    """Where there is a guest: its root may be an image. Raises SandboxError, HostError."""
    has_guest = registry.get(settings.isolation or str(configured("isolation") or registry.DEFAULT)).has_hypervisor
    if settings.root_image == "auto" and not (has_guest and options.rootfs):
        return
    if not (has_guest and options.rootfs):
        raise SandboxError("root_image: needs a rootfs, and the isolation 'microvm'")
    from casemate.hypervisor import root

    with sandbox_errors():
        root.choose(settings.root_image, options.rootfs, how.annotations, how.warn)


def size_bytes(size: int | str) -> int:
    """A size in bytes from a number or a text such as "512M". Raises SandboxError."""
    if isinstance(size, int):
        value = size
    else:
        digits, shift = (size[:-1], _UNITS[size[-1:].upper()]) if size[-1:].upper() in _UNITS else (size, 0)
        try:
            value = int(float(digits) * (1 << shift))
        except (ValueError, OverflowError):
            raise SandboxError(f"memory: expected bytes, or a text such as '512M', got {size!r}") from None
    if value < 0:
        raise SandboxError(f"memory: expected 0 (no limit) or more, got {size!r}")
    return value


def _bind(bind: tuple[str, ...]) -> tuple[str, str, bool]:
    if len(bind) not in (2, 3) or not bind[1].startswith("/") or (len(bind) == 3 and bind[2] not in ("ro", "rw")):
        raise SandboxError(f"binds: expected (source, absolute destination) or (source, destination, 'ro'), got {bind!r}")
    source = os.path.abspath(bind[0])
    if not os.path.lexists(source):
        raise SandboxError(f"binds: {source} does not exist")
    return source, bind[1], bind[-1] == "ro" and len(bind) == 3


def warn(message: str) -> None:
    """Says what is not as asked for, once for each message, on standard error unless the program has it otherwise."""
    import warnings

    warnings.warn(message, RuntimeWarning, stacklevel=2)


@contextmanager
def sandbox_errors() -> Iterator[None]:
    """A wrong argument is a SandboxError in the SDK, whoever finds it."""
    try:
        yield
    except UsageError as error:
        raise SandboxError(str(error)) from None


def _bind_user(user: str, options: Options) -> tuple[int, int] | None:
    """Whose the binds are: who programs run as. A name that is made only in the sandbox is not known yet: then its root's."""
    try:
        found = find_user(user, options.rootfs or "/")
        options.lent.need(found.uid, found.gid)
    except UsageError as error:
        if user.partition(":")[0].isdecimal():
            raise SandboxError(str(error)) from None
        return None
    return found.uid, found.gid


class Session:
    """A running sandbox. Thread-safe, but for `kill`, which ends it for all."""

    def __init__(self, state_root: str, sandbox_id: str, running: Running | None) -> None:
        self.state_root = state_root
        self.sandbox_id = sandbox_id
        self.agent = Agent(state_root, sandbox_id)
        self._running = running
        self._document: dict[str, object] = {}
        self.oom_kills_seen = 0

    @classmethod
    def create(cls, settings: Settings) -> Session:
        """Starts a sandbox. Raises SandboxError, HostError, EngineError, CgroupError."""
        state_root = os.path.abspath(settings.state_root) if settings.state_root else store.default_root()
        collect(state_root)
        options = settings.options(state_root)
        how = Start(_PREFIX + os.urandom(8).hex(), state_root)
        how.isolation = settings.isolation
        how.warn = warn
        how.use_agent = True
        how.annotations = {ANNOTATION: "1"}
        choose_root(settings, options, how)
        if settings.user:
            options.bind_user = _bind_user(settings.user, options)
        options.capabilities = _AGENT_CAPABILITIES
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            how.stdio = (null, null, null)
            with sandbox_errors():
                running, _ = start_sandbox(options, how)
        finally:
            os.close(null)
        session = cls(state_root, how.container_id, running)
        try:
            session._begin(settings, options)
        except BaseException:
            session.kill()
            raise
        return session

    def _begin(self, settings: Settings, options: Options) -> None:
        self._document = {
            "started_at": time.time(),
            "end_at": None,
            "metadata": {str(key): str(value) for key, value in settings.metadata.items()},
            "envs": {**_with_path(options.environment)},
            "cwd": argument(settings.cwd, "cwd"),
            "user": settings.user,
            "isolation": self._container().record.isolation,
        }
        self.agent.request("make_dir", path=settings.cwd, mode=0o755, parents=True)
        self.set_timeout(settings.timeout)

    @classmethod
    def connect(cls, sandbox_id: str, state_root: str = "") -> Session:
        """A running sandbox of any process of this user. Raises SandboxNotFound."""
        state_root = os.path.abspath(state_root) if state_root else store.default_root()
        session = cls(state_root, sandbox_id, None)
        try:
            with session._container() as container:
                session._document = _read_document(container)
            session.agent.request("ping")
            session.new_oom_kills()  # those before are not of our commands
        except BaseException:
            session.close()
            raise
        return session

    @property
    def cwd(self) -> str:
        return str(self._document.get("cwd") or "/")

    @property
    def keeps_descriptors(self) -> bool:
        """Whether the sandbox's descriptors stay in it: its kernel is not this one."""
        return registry.get(str(self._document.get("isolation"))).has_own_kernel

    @property
    def user(self) -> str | None:
        user = self._document.get("user")
        return user if isinstance(user, str) else None

    @property
    def envs(self) -> dict[str, str]:
        envs = self._document.get("envs")
        return {str(key): str(value) for key, value in envs.items()} if isinstance(envs, dict) else {}

    def path(self, path: str) -> str:
        """Absolute: relative paths count from the sandbox's working directory."""
        argument(path, "path")
        return path if path.startswith("/") else f"{self.cwd.rstrip('/')}/{path}"

    def set_timeout(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            raise SandboxError(f"timeout: expected seconds above 0, or None, got {timeout!r}")
        self.agent.request("deadline", ms=int(timeout * 1000) if timeout else 0)
        self._document["end_at"] = time.time() + timeout if timeout else None
        with self._container() as container:
            container.entry.write(store.SANDBOX_FILE, jsonlite.dumps(self._document).encode())

    def is_running(self) -> bool:
        try:
            with self._container() as container:
                return container.is_alive()
        except SandboxNotFound:
            return False

    def info(self) -> SandboxInfo:
        return _info(self.sandbox_id, self._document)

    def metrics(self) -> Metrics:
        with self._container() as container:
            stats = usage.stats(container)
            kills = usage.oom_kills(container)
        limit = _number(stats, "memory", "usage", "limit")
        return Metrics(
            timestamp=datetime.now(UTC),
            cpu_s=_number(stats, "cpu", "usage", "total") / 1e9,
            memory=_number(stats, "memory", "usage", "usage"),
            memory_limit=limit if limit < 1 << 60 else 0,
            memory_peak=_number(stats, "memory", "usage", "max"),
            processes=_number(stats, "pids", "current"),
            processes_limit=_number(stats, "pids", "limit"),
            oom_kills=kills,
        )

    def new_oom_kills(self) -> bool:
        """Whether the kernel killed a process for the memory limit since this was last asked."""
        try:
            with self._container() as container:
                kills = usage.oom_kills(container)
        except (SandboxNotFound, ContainerStateError, WireError):
            return False
        new, self.oom_kills_seen = kills > self.oom_kills_seen, kills
        return new

    def kill(self) -> bool:
        """Ends the sandbox and removes all of it; False if somebody did before."""
        self.close()
        running, self._running = self._running, None
        try:
            delete(self.state_root, self.sandbox_id, force=True)
            return True
        except ContainerNotFound:
            return False
        finally:
            if running:
                running.detach()

    def close(self) -> None:
        """Lets go of it; it runs until its timeout."""
        self.agent.close()

    def _container(self) -> Container:
        try:
            return Container.open(self.state_root, self.sandbox_id)
        except ContainerNotFound:
            raise SandboxNotFound(f"sandbox {self.sandbox_id!r} has ended") from None


def list_sandboxes(state_root: str = "") -> list[SandboxInfo]:
    """All running sandboxes of this user, the oldest first."""
    state_root = state_root or store.default_root()
    collect(state_root)
    found = []
    for sandbox_id in store.list_ids(state_root):
        if not sandbox_id.startswith(_PREFIX):
            continue
        try:
            with Container.open(state_root, sandbox_id) as container:
                if container.record.annotations.get(ANNOTATION) and container.status() == RUNNING:
                    found.append(_info(sandbox_id, _read_document(container)))
        except (ContainerNotFound, SandboxNotFound):
            continue  # it ended meanwhile, or is being made
    return sorted(found, key=lambda info: info.started_at)


def _read_document(container: Container) -> dict[str, object]:
    try:
        document = jsonlite.loads(container.entry.read(store.SANDBOX_FILE))
    except (FileNotFoundError, jsonlite.JsonError):
        document = None
    if not isinstance(document, dict):
        raise SandboxNotFound(f"{container.id!r} is no sandbox of the SDK, or is still being made")
    return document


def _info(sandbox_id: str, document: dict[str, object]) -> SandboxInfo:
    end, metadata = document.get("end_at"), document.get("metadata")
    return SandboxInfo(
        sandbox_id=sandbox_id,
        isolation=str(document.get("isolation")),
        started_at=_time(document.get("started_at")),
        end_at=None if end is None else _time(end),
        metadata={str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {},
    )


def _time(value: object) -> datetime:
    return datetime.fromtimestamp(float(value) if isinstance(value, int | float) else 0, UTC)


def _with_path(envs: dict[str, str]) -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **envs}


def _number(stats: object, *keys: str) -> int:
    value = stats
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else 0

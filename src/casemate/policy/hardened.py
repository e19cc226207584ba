"""The specification of a hardened sandbox: what `do` and the SDK run, on any isolation.

Programs run as an unprivileged id of the host even when root starts them, without capabilities, with no_new_privs, under a default-deny seccomp profile,
in new namespaces of all kinds, a session and a keyring of their own, with a process limit.
"""

from __future__ import annotations

import os

from casemate.errors import UsageError
from casemate.policy.binds import owner_maps
from casemate.policy.hidden import DIRECTORIES, FILES, MASKED, READONLY
from casemate.policy.ids import Lent, on_host
from casemate.policy.seccomp import hardened_profile

DEFAULT_PIDS = 1024
_MAX_PIDS = 1 << 22  # PID_MAX_LIMIT of Linux on 64 bits, which pids.max takes no more than
_MIN_CPUS = 0.01  # cfs_quota_us is at least 1 ms, of a period of 100 ms
_MAX_CPUS = 1e6
_MAX_MEMORY = 1 << 60
TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.policy.users import User

_ENVIRONMENT_KEPT = ("LANG", "LC_ALL", "TERM", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Options:
    """What a sandbox is made of. Paths are absolute. memory: bytes (0: no limit). cpus: 0: no limit. binds: (source, destination, read-only)."""

    __slots__ = (
        "arguments", "bind_user", "binds", "binds_as_they_are", "capabilities", "cpus", "environment", "gid", "groups",
        "hostname", "lent", "memory", "network", "pids", "pids_by_rlimit",
        "rootfs", "shown", "terminal", "uid", "workdir",
    )  # fmt: skip

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.rootfs = ""  # empty: the host's root
        self.binds: list[tuple[str, str, bool]] = []
        self.bind_user: tuple[int, int] | None = None  # whose the writable binds are, where it is not uid and gid
        self.binds_as_they_are: list[str] = []  # destinations whose file system knows no id-mapped mounts
        self.shown: list[str] = []  # installations below hidden directories, read-only
        self.environment: dict[str, str] = {}
        self.workdir = "/"
        self.capabilities: list[str] = []  # of the first process: for an agent, whose programs have none
        self.uid = 0
        self.gid = 0
        self.groups: list[int] = []  # further ones
        self.lent = Lent([[0, os.geteuid(), 1]], [[0, os.getegid(), 1]])
        self.terminal = False
        self.memory = 0
        self.cpus = 0.0
        self.pids = DEFAULT_PIDS
        self.pids_by_rlimit = False  # without cgroups: RLIMIT_NPROC counts per user and user namespace (Linux 5.14), so here per sandbox
        self.network = "none"
        self.hostname = "sandbox"

    def check_limits(self) -> None:
        """Raises UsageError for a limit that the kernel has not."""
        if not 0 <= self.memory <= _MAX_MEMORY:
            raise UsageError(f"memory: expected at most {_MAX_MEMORY} bytes, or 0 for no limit")
        if not (self.cpus == 0 or _MIN_CPUS <= self.cpus <= _MAX_CPUS):
            raise UsageError(f"cpus: expected {_MIN_CPUS:g} to {_MAX_CPUS:g}, or 0 for no limit, got {self.cpus:g}")
        if not 0 <= self.pids <= _MAX_PIDS:
            raise UsageError(f"pids: expected 1 to {_MAX_PIDS}, or 0 for no limit, got {self.pids}")

    def set_user(self, user: User) -> None:
        """Raises UsageError where the sandbox has not these ids."""
        self.lent.need(user.uid, user.gid)
        self.uid, self.gid, self.groups = user.uid, user.gid, user.groups


def hardened_spec(options: Options) -> dict[str, object]:
    """The specification as config.json would have it; `root.path` is the caller's to set. Raises UsageError for limits that cannot be."""
    options.check_limits()
    owned = _owned_binds(options)
    kinds = ["user", "mount", "pid", "ipc", "uts", "cgroup"] + (["network"] if options.network == "none" else [])
    return {
        "ociVersion": "1.2.1",
        "root": {"path": "", "readonly": False},
        "hostname": options.hostname,
        "process": _process(options),
        "mounts": _mounts(options, owned),
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "uidMappings": [_mapping(entry) for entry in options.lent.uid_maps],
            "gidMappings": [_mapping(entry) for entry in options.lent.gid_maps],
            "resources": _resources(options),
            "seccomp": hardened_profile(set_id_files=not owned),
            "maskedPaths": [*MASKED, *(FILES if not options.rootfs else ())],
            "readonlyPaths": list(READONLY),
        },
    }


# Landlock behind the namespaces: no signal and no abstract Unix socket reaches beyond the sandbox. With the host's network those sockets are in reach
# (CVE-2020-15257). Paths are not ruled here: landlock can only add rights below `/`, where a sandbox may make names of its own.
LANDLOCK: dict[str, object] = {"read_only": [], "read_write": [], "scoped": True}


def _mapping(entry: list[int]) -> dict[str, int]:
    return {"containerID": entry[0], "hostID": entry[1], "size": entry[2]}


def _process(options: Options) -> dict[str, object]:
    environment = {key: os.environ[key] for key in _ENVIRONMENT_KEPT if key in os.environ}
    environment |= {"PATH": _PATH, "HOME": "/tmp"} | options.environment
    groups = [gid for gid in options.groups if on_host(gid, options.lent.gid_maps) is not None]
    return {
        "terminal": options.terminal,
        "user": {"uid": options.uid, "gid": options.gid} | ({"additionalGids": groups} if groups else {}),
        "args": options.arguments,
        "env": [f"{key}={value}" for key, value in environment.items()],
        "cwd": options.workdir,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), options.capabilities),
        "noNewPrivileges": True,
        "rlimits": _rlimits(options),
    }


def _rlimits(options: Options) -> list[dict[str, object]]:
    limits: list[dict[str, object]] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    if options.pids and options.pids_by_rlimit:
        import resource

        own = resource.getrlimit(resource.RLIMIT_NPROC)[1]  # the caller's, above which nobody without privileges gets
        most = options.pids if own == resource.RLIM_INFINITY else min(options.pids, own)
        limits.append({"type": "RLIMIT_NPROC", "soft": most, "hard": most})
    return limits


def _resources(options: Options) -> dict[str, object]:
    resources: dict[str, object] = {}
    if options.pids and not options.pids_by_rlimit:
        resources["pids"] = {"limit": options.pids}
    if options.memory:
        resources["memory"] = {"limit": options.memory, "swap": options.memory}
    if options.cpus:
        resources["cpu"] = {"period": 100_000, "quota": int(options.cpus * 100_000)}
    return resources


def _owned_binds(options: Options) -> dict[str, dict[str, object]]:
    """Of each bind that is the sandbox's user's own: destination and the mount's id maps."""
    uid, gid = options.bind_user or (options.uid, options.gid)
    owned: dict[str, dict[str, object]] = {}
    for source, destination, read_only in options.binds:
        maps = None if read_only or destination in options.binds_as_they_are else owner_maps(source, options.lent, uid, gid)
        if maps:
            owned[destination] = {"uidMappings": [_mapping(entry) for entry in maps[0]], "gidMappings": [_mapping(entry) for entry in maps[1]]}
    return owned


def _mounts(options: Options, owned: dict[str, dict[str, object]]) -> list[dict[str, object]]:
    guarded = ["nosuid", "nodev"]
    mounts: list[dict[str, object]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": [*guarded, "noexec"]},
        _tmpfs("/dev", "mode=755", "size=1m", "noexec"),
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        _tmpfs("/dev/shm", "mode=1777", "noexec"),
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": [*guarded, "noexec"]},
    ]
    if options.network == "none":
        mounts.append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*guarded, "noexec", "ro"]})
    else:
        mounts.append(_tmpfs("/sys", "mode=555", "size=0", "ro"))  # sysfs shows the devices of a network namespace that is not ours
    if not options.rootfs:
        mounts += [_tmpfs(path, "mode=1777" if path.endswith("tmp") else "mode=755") for path, _ in DIRECTORIES if os.path.isdir(path)]
    mounts += [{"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro", "rro", *guarded]} for path in options.shown]
    for source, destination, read_only in options.binds:
        access = ["ro", "rro"] if read_only else ["rw"]
        maps = {} if read_only else owned.get(destination, {})
        access += ["idmap"] if maps else []
        mounts.append({"destination": destination, "type": "bind", "source": source, "options": ["rbind", *access, *guarded], **maps})
    return mounts


def _tmpfs(destination: str, *options: str) -> dict[str, object]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", *options]}

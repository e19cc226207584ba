"""Which cgroup hierarchies this host has mounted, and where this process is in each."""

from __future__ import annotations

from casemate.errors import CgroupError
from casemate.host.cgroup import files

# Named hierarchies carry no controller; systemd's is joined so that its tools see the container (as runc does), others are left alone.
JOINED_NAMES = ("name=systemd",)
CONTROLLERS = (
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "net_cls", "net_prio", "hugetlb",
    "perf_event", "rdma", "misc",
)  # fmt: skip


class Hierarchy:
    """One mounted hierarchy.

    version: 1 or 2.   controllers: of v1, in the mount's order ("cpu", "cpuacct", or "name=systemd"); empty of v2.
    mount: where it is mounted.   root: which of its directories the mount shows ("/", or deeper in a container).
    own: this process's cgroup in it, as /proc/self/cgroup says.
    """

    __slots__ = ("controllers", "mount", "own", "root", "version")

    def __init__(self, version: int, controllers: tuple[str, ...], mount: str, root: str) -> None:
        self.version = version
        self.controllers = controllers
        self.mount = mount
        self.root = root
        self.own = "/"

    def own_directory(self) -> str:
        """The host path of this process's cgroup. Raises CgroupError where the mount does not show it."""
        own, root = self.own, self.root
        if root != "/":
            if own != root and not own.startswith(root + "/"):
                raise CgroupError(
                    f"this process's cgroup {own} is outside of what {self.mount} shows ({root})",
                    controller=",".join(self.controllers),
                    path=self.mount,
                    remedy="give an absolute cgroupsPath",
                )
            own = own[len(root) :] or "/"
        if ".." in own.split("/"):
            raise CgroupError(
                f"this process's cgroup {own} is outside of its cgroup namespace", path=self.mount,
                remedy="give an absolute cgroupsPath",
            )  # fmt: skip
        return self.mount if own == "/" else self.mount + own


def find(*, root: str, mountinfo: str, self_cgroup: str) -> list[Hierarchy]:
    """The hierarchies mounted at `root` or directly below it, v1 in mount order, v2 last. Raises CgroupError if the files are unreadable."""
    try:
        mounts = files.read(mountinfo)
        membership = files.read(self_cgroup)
    except OSError as error:
        raise files.failure(error, "cannot find the cgroup mounts", controller="", path=mountinfo) from error
    found = _parse_mounts(mounts, root.rstrip("/"))
    _set_own(found, membership)
    return sorted(found, key=lambda hierarchy: hierarchy.version)


def mode_of(hierarchies: list[Hierarchy]) -> str:
    """`v1`, `v2`, `hybrid` (v1's controllers and a cgroup2) or `none`."""
    versions = {hierarchy.version for hierarchy in hierarchies}
    if versions == {1, 2}:
        return "hybrid"
    return {1: "v1", 2: "v2"}[versions.pop()] if versions else "none"


def _parse_mounts(text: str, root: str) -> list[Hierarchy]:
    """proc_pid_mountinfo(5): `id parent major:minor root mountpoint options fields... - type source superoptions`."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator or not after.startswith("cgroup"):
            continue
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(tail) < 3 or tail[0] not in ("cgroup", "cgroup2"):
            continue
        shown, mount = _unescape(fields[3]), _unescape(fields[4])
        if mount != root and not mount.startswith(root + "/"):
            continue
        version = 2 if tail[0] == "cgroup2" else 1
        controllers = _controllers(tail[2]) if version == 1 else ()
        if version == 1 and not controllers:
            continue
        # The same hierarchy may be mounted twice; the first is the host's own.
        found.setdefault(controllers, Hierarchy(version, controllers, mount, shown))
    return list(found.values())


def _controllers(options: str) -> tuple[str, ...]:
    return tuple(option for option in options.split(",") if option in CONTROLLERS or option in JOINED_NAMES)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def _set_own(hierarchies: list[Hierarchy], text: str) -> None:
    """cgroups(7): each line is `id:controllers:path`; v2's controllers are empty."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            own[controller] = path
    for hierarchy in hierarchies:
        hierarchy.own = own.get(hierarchy.controllers[0] if hierarchy.controllers else "", "/")

"""The facts of this host that lowering needs, cheaply: read at each create."""

from __future__ import annotations

import os

_CAP_SYS_ADMIN = 21


class HostFacts:
    """What of this host decides how a specification is lowered."""

    __slots__ = (
        "cgroup_mode", "euid", "has_apparmor", "has_selinux", "is_privileged", "newgidmap", "newuidmap",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_privileged = True  # root with CAP_SYS_ADMIN in its own user namespace
        self.euid = 0
        self.newuidmap: str | None = None
        self.newgidmap: str | None = None
        self.has_selinux = False
        self.has_apparmor = False
        self.cgroup_mode = "none"  # v1, v2, hybrid or none


def host_facts(cgroup_mode: str) -> HostFacts:
    """The facts; `cgroup_mode` as the cgroup manager found it."""
    facts = HostFacts()
    facts.euid = os.geteuid()
    facts.is_privileged = facts.euid == 0 and _effective_capabilities() >> _CAP_SYS_ADMIN & 1 == 1
    facts.cgroup_mode = cgroup_mode
    if not facts.is_privileged:
        facts.newuidmap = find_program("newuidmap")
        facts.newgidmap = find_program("newgidmap")
    facts.has_selinux = os.path.exists("/sys/fs/selinux/enforce")
    facts.has_apparmor = _read("/sys/module/apparmor/parameters/enabled").startswith("Y")
    return facts


def _effective_capabilities() -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def find_program(program: str) -> str | None:
    """Its path by PATH; None if there is none."""
    for directory in (os.environ.get("PATH") or "/usr/bin:/bin").split(":"):
        path = f"{directory or '.'}/{program}"
        if os.access(path, os.X_OK):
            return path
    return None


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 8192).decode("utf-8", "replace")
    finally:
        os.close(fd)

"""What the kernel can do, from host/probe's facts and from trials."""

from __future__ import annotations

import os

from casemate.report import trials
from casemate.report.row import LIMITED, MISSING, OK, Row, either

_OLDEST = (5, 12)  # mount_setattr(2)
_USED = ("pids", "memory", "cpu", "cpuset", "io", "devices")
_NAMESPACES = {
    "user": "ids of its own", "mnt": "mounts of its own", "pid": "processes of its own", "net": "a network of its own",
    "ipc": "System V and POSIX IPC of its own", "uts": "a host name of its own", "cgroup": "a view of cgroups of its own",
}  # fmt: skip

Facts = dict[str, object]


def kernel_rows(facts: Facts, directory: str) -> list[Row]:
    """All rows of the kernel. facts: of probe(). directory: an existing one, on the filesystem that sandboxes' layers lie on."""
    return [
        _version(facts),
        _cgroup(facts),
        *(_namespace(kind, facts) for kind in _NAMESPACES),
        _time_namespace(facts),
        _user_namespaces(facts),
        _id_helpers(facts),
        _id_ranges(facts),
        _seccomp(facts),
        _notify(facts),
        _landlock(facts),
        _overlay(facts),
        _overlay_in_user_namespace(),
        _idmapped(directory),
        _call("openat2", trials.openat2(), "paths are kept below a directory by the kernel", "Linux 5.6", needed=True),
        _call("pidfd", trials.pidfd(), "processes are signalled without a race for their number", "Linux 5.3", needed=True),
        _io_uring(),
        _security_module("AppArmor", bool(facts["apparmor"]), "process.apparmorProfile", "apparmor"),
        _security_module("SELinux", bool(facts["selinux"]), "process.selinuxLabel", "selinux"),
        _kvm(facts),
    ]


def _inner(facts: Facts, *keys: str) -> object:
    value: object = facts
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _version(facts: Facts) -> Row:
    version, release = _inner(facts, "kernel", "version"), f"Linux {_inner(facts, 'kernel', 'release')} ({_inner(facts, 'kernel', 'machine')})"
    is_ok = isinstance(version, list) and tuple(version[:2]) >= _OLDEST
    wanted = f"use Linux {_OLDEST[0]}.{_OLDEST[1]} or newer"
    return either("kernel", is_ok, why=release, otherwise=f"{release} has no mount_setattr(2)", remedy=wanted, needed=True)


def _cgroup(facts: Facts) -> Row:
    mode, controllers = str(_inner(facts, "cgroup", "mode")), _strings(_inner(facts, "cgroup", "controllers"))
    if mode == "none":
        return Row("cgroups", MISSING, str(_inner(facts, "cgroup", "reason")), "mount cgroup2 on /sys/fs/cgroup: without it there are no limits")
    have = {"io" if name == "blkio" else name for name in controllers}
    if mode == "v2":
        have.add("devices")  # a BPF program, no controller
    missing = [name for name in _USED if name not in have]
    text = f"{mode}: {' '.join(sorted(set(controllers)))}"
    if missing:
        return Row("cgroups", LIMITED, f"{text}; without {' '.join(missing)}", "limits of these are refused: enable the controllers at boot")
    if not _inner(facts, "cgroup", "delegated"):
        remedy = "start from a cgroup that is yours, as with `systemd-run --user --scope -p Delegate=yes`"
        return Row("cgroups", LIMITED, f"{text}; this user may make none: no limits but the number of processes", remedy)
    return Row("cgroups", OK, text)


def _namespace(kind: str, facts: Facts) -> Row:
    name = f"namespace {kind}"
    if kind not in _strings(facts["namespaces"]):
        return Row(name, MISSING, "the kernel is built without it", f"use a kernel with CONFIG_NAMESPACES and CONFIG_{kind.upper()}_NS", needed=True)
    sysctl = f"user.max_{kind}_namespaces"
    if _text(f"/proc/sys/{sysctl.replace('.', '/')}") == "0":
        return Row(name, MISSING, f"sysctl {sysctl} is 0", f"sysctl -w {sysctl}=1000", needed=True)
    return Row(name, OK, _NAMESPACES[kind], needed=True)


def _time_namespace(facts: Facts) -> Row:
    has = "time" in _strings(facts["namespaces"])
    otherwise = "a specification that asks for a clock of its own is refused"
    return either("namespace time", has, why="clocks of its own", otherwise=otherwise, remedy="Linux 5.6 or newer with CONFIG_TIME_NS", status=LIMITED)


def _user_namespaces(facts: Facts) -> Row:
    failed = trials.user_namespace()
    if not failed:
        return Row("unprivileged user namespaces", OK, "a user without privileges made one")
    reason = str(_inner(facts, "user_namespaces", "reason") or "") or _restriction()
    why = f"{failed}: {reason}" if reason else f"a user without privileges may make none: {failed}"
    remedy = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns`" if "apparmor" in why else ""
    remedy = remedy or "sysctl -w kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000"
    return Row("unprivileged user namespaces", LIMITED if os.geteuid() == 0 else MISSING, f"only root can start sandboxes: {why}", remedy, os.geteuid() != 0)


def _restriction() -> str:
    """What forbids it to others, where root itself may."""
    for sysctl, value in (("kernel.unprivileged_userns_clone", "0"), ("kernel.apparmor_restrict_unprivileged_userns", "1")):
        if _text(f"/proc/sys/{sysctl.replace('.', '/')}") == value:
            return f"sysctl {sysctl} is {value}"
    return ""


def _id_helpers(facts: Facts) -> Row:
    missing = [name for name in ("newuidmap", "newgidmap") if not _inner(facts, "id_helpers", name)]
    otherwise = f"no {' and '.join(missing)}: a user's sandbox has one id only"
    return either("newuidmap, newgidmap", not missing, why="set a user's range of ids", otherwise=otherwise, remedy="apt install uidmap", status=LIMITED)


def _id_ranges(facts: Facts) -> Row:
    if facts["euid"] == 0:
        return Row("subuid, subgid", OK, "not needed by root, who lends ranges of 65536 from 0x70000000 on")
    missing = [name for name in ("subuid", "subgid") if not facts[name]]
    ranges = ", ".join(f"{file} {first}+{count}" for file in ("subuid", "subgid") for first, count in _pairs(facts[file]))
    remedy = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
    otherwise = f"no range of this user in {' and '.join(f'/etc/{name}' for name in missing)}: its sandboxes have one id only"
    return either("subuid, subgid", not missing, why=ranges, otherwise=otherwise, remedy=remedy, status=LIMITED)


def _pairs(value: object) -> list[list[int]]:
    return value if isinstance(value, list) else []


def _seccomp(facts: Facts) -> Row:
    actions = _strings(facts["seccomp_actions"])
    return either("seccomp", "errno" in actions, why=" ".join(actions), otherwise="no filters", remedy="CONFIG_SECCOMP_FILTER", needed=True)


def _notify(facts: Facts) -> Row:
    failed = trials.seccomp_notify() if "user_notif" in _strings(facts["seccomp_actions"]) else "no such action"
    otherwise = f"SCMP_ACT_NOTIFY is refused: {failed}"
    return either("seccomp notify", not failed, why="an agent can answer calls", otherwise=otherwise, remedy="use Linux 5.0 or newer", status=LIMITED)


def _landlock(facts: Facts) -> Row:
    version = facts["landlock_abi"]
    remedy = "Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and landlock in the boot parameter lsm="
    return either("landlock", bool(version), why=f"ABI {version}", otherwise="one layer less around files", remedy=remedy, status=LIMITED)


def _overlay(facts: Facts) -> Row:
    if facts["euid"] != 0:
        return Row("overlay", OK, "not tried: needs root")
    failed = trials.overlay()
    return either("overlay", not failed, why="a writable layer over a read-only root", otherwise=failed, remedy="modprobe overlay", needed=True)


def _overlay_in_user_namespace() -> Row:
    failed = trials.overlay_in_user_namespace()
    is_user = os.geteuid() != 0
    otherwise = f"users other than root have no writable layer: {failed}"
    status = MISSING if is_user else LIMITED
    name, why = "overlay in a user namespace", "the same for users without privileges"
    return either(name, not failed, why=why, otherwise=otherwise, remedy="use Linux 5.11 or newer", status=status, needed=is_user)


def _idmapped(directory: str) -> Row:
    if os.geteuid() != 0:
        return Row("idmapped mounts", LIMITED, "root's only", "start as root where a mount needs uidMappings")
    failed = trials.idmapped_mount(directory)
    otherwise = f"{directory}: {failed}; mounts with uidMappings are refused"
    remedy = "keep the directories on ext4, xfs, btrfs or tmpfs (Linux 5.12, tmpfs 6.3)"
    return either("idmapped mounts", not failed, why=f"on the filesystem of {directory}", otherwise=otherwise, remedy=remedy, status=LIMITED)


def _call(name: str, failed: str, why: str, since: str, *, needed: bool) -> Row:
    return either(name, not failed, why=why, otherwise=failed, remedy=f"use {since} or newer", needed=needed)


def _io_uring() -> Row:
    failed = trials.io_uring()
    return Row("io_uring", OK, f"off ({failed}), and not needed" if failed else "not needed; sandboxes may not call it")


def _security_module(name: str, is_active: bool, field: str, module: str) -> Row:
    remedy = f"only if you want {field}: boot with {module} in lsm="
    return either(name, is_active, why=f"{field} is set", otherwise=f"not active: a specification with {field} is refused", remedy=remedy, status=LIMITED)


def _kvm(facts: Facts) -> Row:
    reason = f"{_inner(facts, 'kvm', 'reason')}: no isolation by a virtual machine"
    remedy = "use a host with virtualization (nested, on a cloud's machine), and let the user into the group kvm"
    if _inner(facts, "kvm", "usable") and not _inner(facts, "kvm", "accelerated"):
        return Row("/dev/kvm", LIMITED, "works, but the processor has no virtualisation to offer: a guest's kernel is emulated, and slow", remedy)
    return either("/dev/kvm", bool(_inner(facts, "kvm", "usable")), why="virtual machines at full speed", otherwise=reason, remedy=remedy, status=LIMITED)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""

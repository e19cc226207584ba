"""What this host can do: asked of the kernel, never guessed from a distribution's name.

`probe()` is everything, for `casemate doctor`; the functions are its parts, cheap ones for the verbs. `root` in front of every path is for
tests and for looking at another root directory.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.host.cgroup.hierarchy import Hierarchy

_WHOLE_RANGE = ["0", "0", "4294967295"]
_MAX_FILE = 1 << 20
_FIRST_CPU = 8192
# linux/capability.h, by number.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
_FILESYSTEMS = ("overlay", "erofs", "fuse", "squashfs", "tmpfs", "cgroup2")
_KVM_GET_API_VERSION, _KVM_API_VERSION = 0xAE00, 12
_LANDLOCK_CREATE_RULESET, _LANDLOCK_VERSION_FLAG = 444, 1  # the number is the same on every architecture


def probe(root: str = "") -> dict[str, object]:
    """All facts as JSON values; costs some 10 ms.

    kernel {release, version [int], machine}; euid; capabilities {effective [name], missing [name]}; initial_user_namespace;
    cgroup {mode, controllers [name], delegated (whether this user may make cgroups below its own)}; namespaces [name];
    user_namespaces {max, unprivileged_clone, apparmor_restricted, usable, reason}; landlock_abi (0: none); seccomp_actions [name];
    security_modules [name]; selinux, apparmor (enabled); filesystems {name: bool}; kvm {usable, reason, accelerated};
    id_helpers {newuidmap, newgidmap: path or ""}; subuid, subgid [[first, count]].
    """
    return {
        "kernel": {"release": os.uname().release, "version": list(kernel_version()), "machine": os.uname().machine},
        "euid": os.geteuid(),
        "capabilities": _capabilities(root),
        "initial_user_namespace": in_initial_user_namespace(root),
        "cgroup": _cgroup(root),
        "namespaces": namespaces(root),
        "user_namespaces": user_namespaces(root),
        "landlock_abi": landlock_abi(),
        "seccomp_actions": seccomp_actions(root),
        "security_modules": security_modules(root),
        "selinux": os.path.exists(f"{root}/sys/fs/selinux/enforce"),
        "apparmor": _text(f"{root}/sys/module/apparmor/parameters/enabled") == "Y",
        "filesystems": filesystems(root),
        "kvm": {**kvm(root), "accelerated": has_virtualisation(root)},
        "id_helpers": {name: _program(name, root) for name in ("newuidmap", "newgidmap")},
        "subuid": subordinate_ids("subuid", root),
        "subgid": subordinate_ids("subgid", root),
    }


def kernel_version(release: str = "") -> tuple[int, int, int]:
    """(6, 18, 44) of `6.18.44-fc`; parts that are missing are 0."""
    numbers = []
    for part in (release or os.uname().release).split(".")[:3]:
        digits = ""
        for character in part:
            if not character.isdecimal():
                break
            digits += character
        numbers.append(int(digits or "0"))
    first, second, third = [*numbers, 0, 0, 0][:3]
    return first, second, third


def effective_capabilities(root: str = "") -> int:
    """This process's effective capabilities, bit N for capability N."""
    for line in _text(f"{root}/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def in_initial_user_namespace(root: str = "") -> bool:
    """Whether ids are mapped one to one over the whole range, as only the host's own user namespace has them."""
    return _text(f"{root}/proc/self/uid_map").split() == _WHOLE_RANGE


def namespaces(root: str = "") -> list[str]:
    """The kinds of namespaces the kernel has, by the names of /proc/PID/ns."""
    return [name for name in _NAMESPACES if os.path.lexists(f"{root}/proc/self/ns/{name}")]


def user_namespaces(root: str = "") -> dict[str, object]:
    """Whether this user may make user namespaces, and if not, which setting forbids it."""
    maximum = _integer(f"{root}/proc/sys/user/max_user_namespaces")
    clone = _integer(f"{root}/proc/sys/kernel/unprivileged_userns_clone")  # Debian's and Arch's kernels
    restricted = _integer(f"{root}/proc/sys/kernel/apparmor_restrict_unprivileged_userns")  # Ubuntu 23.10 and later
    is_privileged = bool(effective_capabilities(root) >> CAPABILITIES.index("SYS_ADMIN") & 1)
    reason = ""
    if "user" not in namespaces(root):
        reason = "the kernel is built without user namespaces (CONFIG_USER_NS)"
    elif maximum == 0:
        reason = "sysctl user.max_user_namespaces is 0"
    elif not is_privileged and clone == 0:
        reason = "sysctl kernel.unprivileged_userns_clone is 0"
    elif not is_privileged and restricted:
        reason = "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: needs an AppArmor profile with `userns`"
    return {
        "max": maximum,
        "unprivileged_clone": None if clone is None else clone != 0,
        "apparmor_restricted": bool(restricted),
        "usable": not reason,
        "reason": reason,
    }


def landlock_abi() -> int:
    """The kernel's landlock version; 0 without. landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)."""
    import ctypes  # 5 ms: not for the verbs, whose engine asks the kernel itself

    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION_FLAG))
    return max(0, int(version))


def seccomp_actions(root: str = "") -> list[str]:
    """The actions that filters may return (`kill_process`, `user_notif`, ...); empty without seccomp."""
    return _text(f"{root}/proc/sys/kernel/seccomp/actions_avail").split()


def security_modules(root: str = "") -> list[str]:
    """The active security modules, in order; empty where securityfs is not mounted."""
    text = _text(f"{root}/sys/kernel/security/lsm")
    return text.split(",") if text else []


def filesystems(root: str = "") -> dict[str, bool]:
    """Which of the filesystems casemate uses the kernel has now; False may become True once a module is loaded."""
    known = {line.split()[-1] for line in _text(f"{root}/proc/filesystems").splitlines() if line.split()}
    return {name: name in known for name in _FILESYSTEMS}


def kvm(root: str = "") -> dict[str, object]:
    """Whether /dev/kvm can be opened and speaks the stable API."""
    from fcntl import ioctl

    path = f"{root}/dev/kvm"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return {"usable": False, "reason": f"{path}: {error.strerror}"}
    try:
        version = ioctl(fd, _KVM_GET_API_VERSION, 0)
    except OSError as error:
        return {"usable": False, "reason": f"{path} is not KVM: {error.strerror}"}
    finally:
        os.close(fd)
    if version != _KVM_API_VERSION:
        return {"usable": False, "reason": f"{path}: API version {version}, expected {_KVM_API_VERSION}"}
    return {"usable": True, "reason": ""}


def has_virtualisation(root: str = "") -> bool:
    """Whether the processor says that it has hardware virtualisation (VMX or SVM). Without, a KVM may be there all the same and emulate a guest's kernel."""
    try:
        with open(f"{root}/proc/cpuinfo", "rb", buffering=0) as file:
            first = file.read(_FIRST_CPU)  # of many: the file has a page of text for each
    except OSError:
        return False
    flags = next((line for line in first.splitlines() if line.startswith(b"flags")), b"")
    return not {b"vmx", b"svm"}.isdisjoint(flags.split())


def subordinate_ids(file: str, root: str = "") -> list[list[int]]:
    """[first, count] of this user in /etc/subuid or /etc/subgid (`user:first:count`, the user by name or number; subuid(5)).

    Malformed lines are passed over, as newuidmap does.
    """
    names = {str(os.getuid()), _user_name()}
    found = []
    for line in _text(f"{root}/etc/{file}").splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            found.append([int(fields[1]), int(fields[2])])
    return found


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _capabilities(root: str) -> dict[str, list[str]]:
    mask = effective_capabilities(root)
    last = _integer(f"{root}/proc/sys/kernel/cap_last_cap")
    known = CAPABILITIES[: len(CAPABILITIES) if last is None else last + 1]
    return {
        "effective": [f"CAP_{name}" for number, name in enumerate(known) if mask >> number & 1],
        "missing": [f"CAP_{name}" for number, name in enumerate(known) if not mask >> number & 1],
    }


def _cgroup(root: str) -> dict[str, object]:
    from casemate.errors import CgroupError
    from casemate.host.cgroup import hierarchy

    try:
        found = hierarchy.find(root="/sys/fs/cgroup", mountinfo=f"{root}/proc/self/mountinfo", self_cgroup=f"{root}/proc/self/cgroup")
    except CgroupError as error:
        return {"mode": "none", "controllers": [], "delegated": False, "reason": str(error)}
    controllers = [name for one in found for name in one.controllers if not name.startswith("name=")]
    for one in found:
        if one.version == 2:
            controllers += _text(f"{root}{one.mount}/cgroup.controllers").split()
    return {"mode": hierarchy.mode_of(found), "controllers": controllers, "delegated": bool(found) and all(_may_make(one) for one in found)}


def _may_make(one: Hierarchy) -> bool:
    from casemate.errors import CgroupError

    try:
        return os.access(one.own_directory(), os.W_OK)
    except CgroupError:
        return False


def _program(name: str, root: str) -> str:
    """The full path of a set-uid or privileged helper, from the system's directories only: PATH is the caller's."""
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"):
        path = f"{root}{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def _text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _MAX_FILE).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(fd)


def _integer(path: str) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdecimal() else None

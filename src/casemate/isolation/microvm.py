"""The `microvm` isolation: the program runs on a Linux kernel of its own, in a virtual machine.

The plan is split in two. The host's half makes the container's files, and a jail around the hypervisor, whose root holds nothing but its own programs
and those files; its last step becomes the relay, which starts the hypervisor. The guest's half is what the program would have met on the host: the agent
runs it with the same `init`, on the guest's kernel.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate import wire
from casemate.errors import EngineError, HostError, UsageError
from casemate.guest import images, store
from casemate.hypervisor import kvm, registry, virtiofsd
from casemate.hypervisor.user import own_user
from casemate.isolation import microvm_network
from casemate.isolation.base import Launch, Verdict
from casemate.isolation.engine_process import launch_engine
from casemate.isolation.namespaces import Namespaces
from casemate.oci.fields.mount_options import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REC, MS_REMOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.base import Hypervisor, Machine
    from casemate.isolation.base import Handlers, Plan, PodSandbox

    Op = dict[str, object]

_ROOT = "share/root"
# Where the agent mounts an image and its layer (crates/guest-agent/src/boot.rs).
_IMAGE_ROOT = {"path": "/image", "overlay": {"lower": "/image", "upper": "/layer/upper", "work": "/layer/work"}}
_FILES = "CASEMATE_FILES"  # "protocol": files come over the agent's stream, also where the hypervisor has a way of its own
_CONTAINER = "main"  # the first container's name in its guest
# What the host's half does, in the plan's order; everything else is done in the guest.
_ON_HOST = frozenset(("barrier", "cpu_affinity", "io_priority", "memory_policy", "parent_death_signal", "pivot_root", "propagation", "root", "scheduler"))
_ON_BOTH = frozenset(("become_root", "keyring", "pty", "setsid", "unshare"))
_NOWHERE = frozenset(("apparmor", "selinux"))  # labels of the host's policy, which the guest's kernel has not
# CLONE_NEW* of the namespaces that a pod's container may share with the pod's sandbox, which are the guest's then (linux/sched.h).
_SHARED = {"network": 0x40000000, "pid": 0x20000000, "user": 0x10000000, "ipc": 0x8000000, "uts": 0x4000000}
_CLONE_NEWUSER, _CLONE_NEWPID = _SHARED["user"], _SHARED["pid"]
_LONGEST_NAME = 200  # of a container in its guest: a directory's name there, with what stands before it
_SANDBOX_MEMORY = "io.kubernetes.cri.sandbox-memory"  # containerd's: bytes that the pod's containers are to have together
_HOST_NAMESPACES = ("mount", "pid", "network", "ipc", "uts")
_MOUNT_ATTR = {"ro": 1, "nosuid": 2, "nodev": 4}
# What the relay starts with. The file server of a hypervisor keeps the first eight: it acts for every id of the container, by name. The relay and the
# hypervisor keep none (crates/relay/src/jail.rs).
_CAPABILITIES = (
    "CAP_CHOWN",  # chown(2) by the guest's root, to any of the container's ids
    "CAP_DAC_OVERRIDE",  # the guest's kernel has checked the modes; its root reads what belongs to others
    "CAP_FOWNER",  # chmod(2), utimes(2), sticky directories, by the guest's root
    "CAP_FSETID",  # a set-group-id bit that stays when the guest's root changes a file of another group
    "CAP_MKNOD",  # device files and whiteouts: nobody can open them, the jail's mounts are nodev
    "CAP_SETFCAP",  # security.capability of files that the guest installs
    "CAP_SETGID",  # files are made with the ids of who makes them; also the relay's own change of user
    "CAP_SETUID",  # the same
    "CAP_SETPCAP",  # to drop the bounding set, which all then do
    "CAP_SYS_CHROOT",  # the file server's own chroot(2), into the share
)
_DEFAULT_MEMORY_MIB = 512
_LEAST_MEMORY_MIB = 128
_KERNEL_MEMORY_MIB = 64  # of a guest's memory, what its kernel and agent take
_HOST_MEMORY = 256 << 20  # of a hypervisor and its file server, beside the guest's
_HOST_PIDS = 256  # of a hypervisor: threads, and with User Mode Linux helper processes


class Microvm(Namespaces):
    """The container's first process on the host is the relay, in the cgroup that the plan names; the program's are in the guest."""

    name = "microvm"
    has_control = True
    has_own_kernel = True
    has_hypervisor = True
    starts_at_once = False  # a guest boots meanwhile, and says itself when it is ready
    serves_pods = True

    def probe(self) -> Verdict:
        verdict = super().probe()
        if not verdict.ok:
            return verdict
        try:
            registry.choose()
        except HostError as error:
            return Verdict(False, error.reason, error.remedy)
        return verdict

    def create(self, launch: Launch) -> int:
        annotations = launch.spec.get("annotations")
        wanted = annotations.get(registry.ANNOTATION) if isinstance(annotations, dict) else None
        limits = _limits(launch.spec)
        memory_mib = _memory_mib(max(limits["memory"], _pod_memory(annotations)))
        hypervisor = registry.choose(str(wanted or "")).hypervisor
        has_cards = _can_have_interfaces(launch) and microvm_network.can_have_cards(hypervisor, launch.plan)
        user = own_user(launch.plan.get("id_maps"))
        root = _root_image(annotations, launch.plan, user)
        maps_image = root is not None and root.is_mapped
        # What `do` starts is no pod, so nothing comes to it by files but its binds.
        needs_files = not root or launch.is_pod or any(_is_bind(op) for op in _ops(launch.plan))
        machine = hypervisor.machine(
            memory_mib + (images.MAPPED_COSTS_MIB if maps_image else 0), _files() if needs_files else "none", has_cards=has_cards, maps_image=maps_image
        )
        guest_root = root.plug(hypervisor, machine) if root else None
        inherited = machine.open()
        plan = machine_plan(launch.plan, machine, limits, launch.agent_fd, launch.report_fd, guest_root, user, inherited)
        try:
            return launch_engine(Launch(plan, stdio=launch.stdio, descriptors=(*launch.descriptors, *inherited), handlers=launch.handlers), boots=True)
        except EngineError as error:
            if launch.report_fd >= 0 and os.pread(launch.report_fd, 1, 0):
                raise UsageError(f"memory: the limit of {limits['memory']} bytes is too small to start a program: out of memory") from None
            raise _with_names(error, _ops(launch.plan)) from None
        finally:
            for fd in inherited:
                os.close(fd)
            if root:
                root.close()

    def join(self, launch: Launch, sandbox: PodSandbox) -> int:
        channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        pidfd = os.pidfd_open(sandbox.pid)
        machine = os.dup(pidfd)
        try:
            channel.connect(sandbox.control_path)
            plan = join_plan(launch, channel.fileno(), pidfd, machine, _user_and_pid(sandbox.pid))
            descriptors = (*launch.descriptors, channel.fileno(), pidfd, machine)
            return launch_engine(Launch(plan, stdio=launch.stdio, descriptors=descriptors, handlers=launch.handlers))
        except EngineError as error:
            raise _with_names(error, _ops(launch.plan)) from None
        finally:
            os.close(machine)
            os.close(pidfd)
            channel.close()

    def leave(self, container_id: str, sandbox_pid: int) -> None:
        """The mounts that the container has in its machine go with the directory that they are on: this process is in another mount namespace, in which
        it is no mount point (Linux: detach_mounts).
        """
        try:
            os.rmdir(f"/proc/{sandbox_pid}/root{_place(container_id)}")
        except OSError:
            pass  # it never came so far, or the machine is gone

    def start(self, channel_path: str, handlers: Handlers, pid: int) -> None:
        microvm_network.connect(channel_path, pid)
        super().start(channel_path, handlers, pid)

    def release(self, spec: dict[str, object]) -> None:
        microvm_network.release(spec)

    def exec(self, launch: Launch, channel_path: str) -> int:
        channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            channel.connect(channel_path)
            plan = exec_plan(launch.plan, channel.fileno())
            descriptors = (*launch.descriptors, channel.fileno())
            return launch_engine(Launch(plan, stdio=launch.stdio, descriptors=descriptors, handlers=launch.handlers))
        finally:
            channel.close()

    def host_resources(self, resources: dict[str, object]) -> dict[str, object]:
        """The limits of the machine as a whole: the container's, which hold in the guest, and what the machine itself takes."""
        changed = dict(resources)
        memory, pids = resources.get("memory"), resources.get("pids")
        if isinstance(memory, dict):
            guest = _memory_mib(_positive(memory.get("limit"))) << 20
            limits = {key: guest + _HOST_MEMORY for key in ("limit", "swap") if _positive(memory.get(key))}
            changed["memory"] = {**memory, **limits}
        if isinstance(pids, dict) and _positive(pids.get("limit")):
            changed["pids"] = {**pids, "limit": _positive(pids["limit"]) + _HOST_PIDS}
        devices = resources.get("devices")
        given = devices if isinstance(devices, list) else []
        # What is opened from within the container's cgroup: a hypervisor opens the first by itself, taps are files of the second. The guest's programs have no
        # device of the host's.
        own = ([kvm.DEVICE_RULE] if kvm.is_real() else []) + ([microvm_network.TUN] if given else [])
        if own:
            changed["devices"] = [*given, *own]
        return changed


class _RootImage:
    """A root that is an image of the specification's directory, and the disk that is written over it, if one was asked for."""

    def __init__(self, path: str, disk: str, *, is_mapped: bool) -> None:
        self._path = path
        self._disk = disk
        self.is_mapped = is_mapped

    def plug(self, hypervisor: Hypervisor, machine: Machine) -> dict[str, str | None]:
        """Gives both to the machine; returns the plan's words for them."""
        image = (hypervisor.map_image if self.is_mapped else hypervisor.plug)(machine, "root", self._path)
        return {"root_image": image, "root_disk": hypervisor.plug(machine, "layer", self._disk, writable=True) if self._disk else None}

    def close(self) -> None:
        """The machine has opened them, or never will."""
        if self._disk:
            os.unlink(self._disk)


def _root_image(annotations: object, plan: Plan, user: list[int]) -> _RootImage | None:
    """The image that the annotation asks for. Raises HostError, UsageError: a root whose files are the host's is another thing, never put in its place."""
    mode = annotations.get(images.ANNOTATION) if isinstance(annotations, dict) else None
    size = images.disk_size(str(mode or ""))
    if size is None:
        return None
    is_mapped = images.is_mapped(str(mode))
    root = next(op for op in _ops(plan) if op["op"] == "root")
    overlay = root.get("overlay")
    path = images.find_or_make(str(overlay["lower"] if isinstance(overlay, dict) else root["path"]))
    if is_mapped:
        images.refuse_to_map(path)
    return _RootImage(path, images.make_disk(size, _on_host(plan.get("id_maps"), user)) if size else "", is_mapped=is_mapped)


def _on_host(id_maps: object, user: list[int]) -> tuple[int, int]:
    """User and group of the hypervisor, as the host has them."""
    if not isinstance(id_maps, dict):
        return user[0], user[1]
    rows = zip((id_maps["uid"], id_maps["gid"]), user, strict=True)
    uid, gid = (next((outside + wanted - inside for inside, outside, size in row if inside <= wanted < inside + size), -1) for row, wanted in rows)
    return uid, gid


def _can_have_interfaces(launch: Launch) -> bool:
    """Whether somebody may give the container's network an interface: not to one that is a sandbox of ours, and to a new one not without privileges."""
    if "network" in _kinds(launch.plan):
        return True
    is_own = launch.agent_fd >= 0 or any(op["op"] == "parent_death_signal" for op in _ops(launch.plan))
    return os.geteuid() == 0 and not is_own


def _files() -> str:
    """How the containers' files come into the guest, if not in the hypervisor's own way. Raises UsageError."""
    way = os.environ.get(_FILES, "")
    if way not in ("", "protocol"):
        raise UsageError(f"{_FILES}: expected protocol or nothing, got {way!r}")
    return way


def _positive(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _limits(spec: dict[str, object]) -> dict[str, int]:
    linux = spec.get("linux")
    resources = linux.get("resources") if isinstance(linux, dict) else None
    resources = resources if isinstance(resources, dict) else {}
    sections = {name: resources.get(name) for name in ("memory", "pids")}
    return {name: _positive(section.get("limit")) if isinstance(section, dict) else 0 for name, section in sections.items()}


def _memory_mib(limit: int) -> int:
    """The guest's memory: the container's limit and what its kernel takes."""
    if not limit:
        return _DEFAULT_MEMORY_MIB
    return max(_LEAST_MEMORY_MIB, (limit + (1 << 20) - 1 >> 20) + _KERNEL_MEMORY_MIB)


def _pod_memory(annotations: object) -> int:
    """What the containers of a pod are to have together, if its engine says so."""
    text = annotations.get(_SANDBOX_MEMORY) if isinstance(annotations, dict) else None
    return int(text) if isinstance(text, str) and text.isdecimal() else 0


def machine_plan(
    plan: Plan,
    machine: Machine,
    limits: dict[str, int],
    agent_fd: int = -1,
    report_fd: int = -1,
    root_image: dict[str, str | None] | None = None,
    user: list[int] | None = None,
    inherited: list[int] | None = None,
) -> Plan:
    """The host's half, with the guest's in its last step. root_image: the guest's names of the disks that are its root, in place of the host's directory.
    user: the hypervisor's, drawn if nobody has.   inherited: descriptors that its command names.

    Raises HostError for what a virtual machine cannot do.
    """
    ops = _ops(plan)
    _refuse(plan, ops)
    joined = _kinds(plan)
    foreign = sorted(joined - {"network", "user"})
    if foreign:
        raise HostError(f"isolation 'microvm' cannot join namespaces of the host ({', '.join(foreign)})", "leave out their paths in linux.namespaces")
    guest, host_ops, shares = _split(plan, ops, f"/{_ROOT}", "share")
    if "network" in joined:
        # The host's is the hypervisor's; the container has one in the guest, where no other is.
        guest = {**guest, "new": [*_new(plan), "network"], "ops": [{"op": "loopback_up"}, *_ops(guest)]}
    root = next(index for index, op in enumerate(host_ops) if op["op"] == "root")
    taps = microvm_network.make_taps(machine)
    host_ops[root:root] = taps
    root += len(taps)
    if root_image:
        guest = {**guest, "ops": [{**op, **_IMAGE_ROOT} if op["op"] == "root" else op for op in _ops(guest)]}
        # The hypervisor has no business with the directory: it gets an empty one.
        host_ops[root] = {"op": "root", "path": f"{store.jail()}/share", "overlay": None, "shared": False}
    if root_image and any(_is_overlay(op) for op in ops):
        raise HostError("an overlay of the host's directories cannot be mounted in a root that is an image", "leave out the image, or the overlay")
    host_ops[root + 1 : root + 1] = [*_into_jail(ops), *_jail(machine), *shares]
    last: list[Op] = [op for op in host_ops if op["op"] == "parent_death_signal"]
    host_ops = [op for op in host_ops if op["op"] != "parent_death_signal"]
    become: Op = {
        "op": "machine",
        "helpers": machine.helpers,
        "files": None if machine.file_server is None else dict(zip(("listen", "server", "name"), (*machine.file_server, virtiofsd.TAG), strict=True)),
        "command": machine.command,
        "env": machine.environment,
        "user": user or own_user(plan.get("id_maps")),
        "traces": machine.traces,
        "card": machine.card,
        "inherit": inherited or [],
        "share": machine.share or None,
        **(root_image or {}),
        "container": _CONTAINER,
        "plan": wire.pack(guest),
        "terminal": _has_terminal(ops),
        "memory": limits["memory"],
        "pids": limits["pids"],
        # `do`: whoever sends a signal means the program, whatever it is in its namespace.
        "default_action": bool(last),
        "boot_timeout_s": machine.boot_timeout_s,
        "link_window": machine.link_window,
        "agent": agent_fd if agent_fd >= 0 else None,
        "restored": machine.restored,
        "orders": machine.orders,
        "report": report_fd if report_fd >= 0 else None,
    }
    capabilities = {key: list(_CAPABILITIES) for key in ("bounding", "effective", "permitted")}
    jail: list[Op] = [
        {"op": "no_new_privs"},
        {"op": "credentials", "uid": 0, "gid": 0, "groups": [], "umask": 0o022, "capabilities": capabilities},
    ]
    new = _new(plan)
    kinds = [*new, *(kind for kind in _HOST_NAMESPACES if kind not in new and kind not in joined)]
    return {**plan, "new": kinds, "keep_fds": [], "ops": [*host_ops, *jail, *last, become]}


def join_plan(launch: Launch, control_fd: int, pidfd: int, machine_fd: int, namespaces: int) -> Plan:
    """A further container of a pod: its first process on the host makes its files, in the user and pid namespaces of the machine (`namespaces`), moves them
    into the machine's share, and stands for it. Raises HostError.
    """
    plan, limits = launch.plan, _limits(launch.spec)
    ops = _ops(plan)
    _refuse(plan, ops)
    if plan.get("id_maps"):
        raise HostError("a container of a pod has the user namespace of the pod's sandbox", "give it that one's path, or none")
    joined = _kinds(plan)
    foreign = sorted(joined - set(_SHARED))
    if foreign:
        raise HostError(f"a container of a pod in a virtual machine shares no {', '.join(foreign)} namespace", "leave out their paths in linux.namespaces")
    name = container_name(str(launch.container_id))
    guest, host_ops, shares = _split(plan, ops, f"{_place(launch.container_id)}/root", _place(launch.container_id)[1:])
    # What stands for it on the host executes nothing and has no capability: it needs no further namespace, and its mounts are the machine's at the end.
    host_ops = [op for op in host_ops if op["op"] not in ("pivot_root", "parent_death_signal", "unshare")]
    root = next(index for index, op in enumerate(host_ops) if op["op"] == "root")
    terminal = [_mount("/dev", fstype="tmpfs", source="tmpfs", flags=MS_NOSUID | MS_NOEXEC), _devpts()] if _has_terminal(ops) else []
    host_ops[root + 1 : root + 1] = [*_into_jail(ops), *terminal, *shares]
    if namespaces & _CLONE_NEWUSER and not any(op["op"] == "become_root" for op in host_ops):
        host_ops.insert(0, {"op": "become_root"})
    become: Op = {
        "op": "machine_join",
        "control": control_fd,
        "machine": machine_fd,
        "share": "share",
        "at": _place(launch.container_id),
        "container": name,
        "plan": wire.pack(guest),
        "memory": limits["memory"],
        "pids": limits["pids"],
        "shared": sum(_SHARED[kind] for kind in joined),
    }
    join = [{"kind": "pidfd", "fd": pidfd, "flags": namespaces}]
    return {**plan, "join": join, "new": ["mount"], "ops": [*host_ops, {"op": "no_new_privs"}, become]}


def container_name(container_id: str) -> str:
    """A further container's name in its guest. Raises HostError."""
    if len(container_id) > _LONGEST_NAME:
        raise HostError(f"the id of a container in a pod's virtual machine has at most {_LONGEST_NAME} characters", "give it a shorter one")
    return f"pod-{container_id}"


def _place(container_id: str) -> str:
    """Where its files are, in the machine's jail and in the guest alike."""
    return f"/share/pod-{container_id}"


def _user_and_pid(pid: int) -> int:
    """CLONE_NEW* of the process's pid namespace, and of its user namespace if that is not this process's own, which cannot be joined."""
    ours, theirs = os.stat("/proc/self/ns/user"), os.stat(f"/proc/{pid}/ns/user")
    return _CLONE_NEWPID | (0 if ours.st_ino == theirs.st_ino else _CLONE_NEWUSER)


def _split(plan: Plan, ops: list[Op], root: str, place: str) -> tuple[Plan, list[Op], list[Op]]:
    """The guest's plan, whose root is `root`; the host's operations; and those that put the container's binds below `place`, where the guest finds them."""
    shares: list[Op] = []
    guest_ops = [changed for op in ops if _is_for_guest(op) for changed in _for_guest(op, shares, root, place)]
    guest = {
        **plan,
        "join": [],
        "listen": None,
        "cgroup": None,
        "keep_fds": [],
        "oom_score_adj": None,
        "id_maps": _identity(plan.get("id_maps")),
        "ops": guest_ops,
    }
    return guest, [op for op in ops if op["op"] in _ON_HOST | _ON_BOTH or _is_host_hook(op)], shares


def _kinds(plan: Plan) -> set[str]:
    """The namespaces that the specification has by path."""
    join = plan["join"]
    assert isinstance(join, list)
    return {str(entry["kind"]) for entry in join}


def _new(plan: Plan) -> list[str]:
    new = plan["new"]
    assert isinstance(new, list)
    return new


def _has_terminal(ops: list[Op]) -> bool:
    return any(op["op"] == "pty" for op in ops)


def exec_plan(plan: Plan, control_fd: int) -> Plan:
    """`exec` as a process of ours outside of the container's namespaces, which asks the relay behind `control_fd` to run the guest's half."""
    ops = _ops(plan)
    if plan["keep_fds"]:
        raise HostError("isolation 'microvm' cannot hand descriptors to a program in a virtual machine", "leave out --preserve-fds")
    terminal = next((op for op in ops if op["op"] == "pty"), None)
    size = None if terminal is None else [terminal["columns"], terminal["rows"]]
    guest_ops = [op for op in ops if op["op"] not in (*_NOWHERE, "barrier", "cpu_affinity")]
    guest = {**plan, "join": [], "cgroup": None, "oom_score_adj": None, "ops": guest_ops}
    kept = [op for op in ops if op["op"] in ("barrier", "setsid", "keyring", "cpu_affinity")]
    request: Op = {"op": "machine_exec", "control": control_fd, "terminal": size, "plan": wire.pack(guest)}
    return {**plan, "join": [], "ops": [*kept, {"op": "no_new_privs"}, request]}


def _ops(plan: Plan) -> list[Op]:
    ops = plan["ops"]
    assert isinstance(ops, list)
    return ops


def _refuse(plan: Plan, ops: list[Op]) -> None:
    if any(op["op"] == "root" and op.get("shared") for op in ops):
        raise HostError("isolation 'microvm' needs a mount namespace of the container's own", "add it to linux.namespaces")
    if any(op["op"] == "seccomp" and op.get("listener") for op in ops):
        raise HostError("isolation 'microvm' cannot send a seccomp listener out of a virtual machine", "leave out linux.seccomp.listenerPath")
    if plan["keep_fds"]:
        raise HostError("isolation 'microvm' cannot hand descriptors to a program in a virtual machine", "leave out --preserve-fds")
    if "network" not in _new(plan) and "network" not in _kinds(plan):
        raise microvm_network.of_the_host()


def _is_host_hook(op: Op) -> bool:
    return op["op"] == "hook" and op.get("kind") != "startContainer"


def _is_for_guest(op: Op) -> bool:
    if op["op"] == "barrier" or _is_host_hook(op) or _is_overlay(op):
        return False
    return op["op"] not in _NOWHERE and (op["op"] not in _ON_HOST or op["op"] in ("root", "pivot_root", "propagation"))


def _for_guest(op: Op, shares: list[Op], root: str, place: str) -> list[Op]:
    """The operation as the guest does it. What it binds of the host's is added to `shares`: in the jail below /share, which the guest has at `place`."""
    if op["op"] == "root":
        return [{"op": "root", "path": root, "overlay": None, "shared": False}]
    if _is_bind(op):
        name = len(shares)
        shares.append({**op, "destination": f"/share/{name}", "create": "auto"})
        return [{**op, "source": f"/{place}/{name}", "source_fd": None, "idmap": None}]
    return [op]


def _is_bind(op: Op) -> bool:
    flags = op.get("flags")
    return op["op"] == "mount" and isinstance(flags, int) and flags & (MS_BIND | MS_REMOUNT) == MS_BIND


def _into_jail(ops: list[Op]) -> list[Op]:
    """The container's root, once it is whole, is put into the jail."""
    return [*(op for op in ops if _is_overlay(op)), {"op": "nest", "path": store.jail(), "at": _ROOT}]


def _is_overlay(op: Op) -> bool:
    """Of the host's directories: `do` makes its root of such, where its caller has no privileges. It is part of what the guest is shown."""
    return op["op"] == "mount" and op.get("fstype") == "overlay"


def _with_names(error: EngineError, ops: list[Op]) -> EngineError:
    """The error with the specification's destinations in place of where the binds are on their way to the guest."""
    message = error.message
    for name, op in enumerate(op for op in ops if _is_bind(op)):
        message = message.replace(f'"/share/{name}"', f'"{op["destination"]}"')
    return EngineError(op=error.op, index=error.index, errno=error.errno, message=message)


def _identity(maps: object) -> dict[str, object] | None:
    """The container's ids are the guest's own: what they are on the host is the host's half's."""
    if not isinstance(maps, dict):
        return None
    same = {key: [[first, first, size] for first, _, size in maps[key]] for key in ("uid", "gid")}
    return {**maps, **same, "setgroups": "allow", "uid_helper": None, "gid_helper": None}


def _jail(machine: Machine) -> list[Op]:
    """What the hypervisor sees beside the containers' files: its programs, read-only, and a handful of devices."""
    guarded = MS_NOSUID | MS_NODEV
    read_only = _MOUNT_ATTR["ro"] | _MOUNT_ATTR["nosuid"] | _MOUNT_ATTR["nodev"]
    programs = [_mount("/usr", source="/usr", flags=MS_BIND | MS_REC, recursive_set=read_only)] if machine.needs_programs else []
    ops: list[Op] = [
        *programs,
        _mount("/proc", fstype="proc", source="proc", flags=guarded | MS_NOEXEC),
        _mount("/dev", fstype="tmpfs", source="tmpfs", flags=MS_NOSUID | MS_NOEXEC, data="mode=755,size=64k"),
        _devpts(),
        _mount("/tmp", fstype="tmpfs", source="tmpfs", flags=guarded, data="mode=1777"),
        _mount("/run", fstype="tmpfs", source="tmpfs", flags=guarded | MS_NOEXEC, data="mode=755,size=1m"),
        _mount("/guest", fstype="tmpfs", source="tmpfs", flags=guarded, data="mode=755,size=64k"),
    ]
    for name, path in machine.files.items():
        ops.append(_mount(f"/guest/{name}", source=path, flags=MS_BIND, recursive_set=read_only))
    for name, path, writable in machine.disks:
        ops.append(_mount(f"/guest/{name}", source=path, flags=MS_BIND, recursive_set=0 if writable else read_only))
    for path, major, minor in (("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/urandom", 1, 9)):
        ops.append({"op": "device", "path": path, "type": "c", "major": major, "minor": minor, "mode": 0o666, "uid": 0, "gid": 0, "bind": True})
    for path, source in machine.devices.items():
        ops.append(_mount(path, source=source, flags=MS_BIND))
    return ops


def _devpts() -> Op:
    return _mount("/dev/pts", fstype="devpts", source="devpts", flags=MS_NOSUID | MS_NOEXEC, data="newinstance,ptmxmode=0666,mode=0620")


def _mount(destination: str, **arguments: object) -> Op:
    create = "auto" if isinstance(arguments.get("flags"), int) and arguments["flags"] & MS_BIND else "dir"  # type: ignore[operator]
    return {"op": "mount", "destination": destination, "create": create, **arguments}

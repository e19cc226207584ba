"""The network of a machine: what stands between a network namespace of the host and its guest (docs/decisions/2026-11-28-network-of-guests.md).

At `create` the engine makes taps in the namespace, whose other ends are the machine's cards. At `start` it joins them with the interfaces that are there by
then, whoever made those and when, and the guest gets their addresses and routes.
"""

from __future__ import annotations

import _signal
import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate import wire
from casemate.errors import EngineError, HostError, WireError
from casemate.isolation.base import Handlers, Launch
from casemate.isolation.engine_process import launch_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.base import Hypervisor, Machine
    from casemate.isolation.base import Plan

    Op = dict[str, object]

_HOSTS = (
    "isolation 'microvm' cannot give a program the host's network: a guest has its own",
    "leave out --network host, and it has loopback only; `do` gives outgoing connections with --isolation=sentry or namespaces; "
    "a guest has the network that podman, containerd or CNI made for its container",
)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
# /dev/net/tun. The file of a tap is opened in the namespace that the tap is for, by a process that is in the container's cgroup by then.
TUN: Op = {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"}
_NULL = "/dev/null"
_DEATH_TIMEOUT_MS = 10_000


def of_the_host() -> HostError:
    """For who asked for the host's network."""
    return HostError(*_HOSTS)


def can_have_cards(hypervisor: Hypervisor, plan: Plan) -> bool:
    """Whether a machine for this plan can have cards. Raises HostError for one that cannot, and whose network is there already."""
    join = plan["join"]
    assert isinstance(join, list)
    joined = next((entry["fd"] for entry in join if entry["kind"] == "network"), None)
    if joined is not None and os.fstat(joined).st_ino == os.stat("/proc/self/ns/net").st_ino:
        raise of_the_host()
    verdict = hypervisor.network()
    if joined is not None and not verdict.ok:
        raise HostError(f"hypervisor {hypervisor.name!r}: {verdict.reason}", verdict.remedy)
    return verdict.ok


def make_taps(machine: Machine) -> list[Op]:
    """The host's operations for a machine's cards."""
    return [{"op": "taps", "header": machine.card_header}] if machine.card else []


def connect(channel_path: str, pid: int) -> None:
    """Gives the guest the interfaces of the network namespace of process `pid`, the machine's, if it has cards for them.

    Raises EngineError, after which the machine has ended: its container cannot be started again.
    """
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        channel.connect(channel_path)
        wire.send(channel, {"request": "taps"})
        answer, _ = wire.receive(channel)
        if answer is None:
            return  # it has ended, which the start itself will say
        taps = answer.get("names")
        if not isinstance(taps, list):
            raise WireError(f"the relay sent an unexpected {answer.get('event')!r}")
        if taps or _has_interfaces(pid):
            _connect(channel.fileno(), pid, taps)
    finally:
        channel.close()


def _has_interfaces(pid: int) -> bool:
    """Whether a machine without cards is in a network that has interfaces, which would be missed without a word. A further container of a pod is in ours."""
    try:
        network = os.stat(f"/proc/{pid}/ns/net")
    except PermissionError:
        return False  # an ordinary user's: who may not look at the namespace may not have joined it either, so nobody has put interfaces there
    if network.st_ino == os.stat("/proc/self/ns/net").st_ino:
        return False
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as table:
        return any(":" in line and not line.lstrip().startswith("lo:") for line in table)


def _connect(control: int, pid: int, taps: list[object]) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        join = {"kind": "pidfd", "fd": pidfd, "flags": _CLONE_NEWNET | _user_namespace(pid)}
        _run([join], {"op": "machine_network", "control": control, "taps": taps}, (pidfd, control))
    except EngineError:
        _end(pidfd)
        raise
    finally:
        os.close(pidfd)


def _end(pidfd: int) -> None:
    import select  # 0.25 ms

    _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_DEATH_TIMEOUT_MS)


def release(spec: dict[str, object]) -> None:
    """Takes away what is left on the interfaces of the network namespace that the specification has by path, if that is still there. Raises EngineError."""
    linux = spec.get("linux")
    entries = linux.get("namespaces") if isinstance(linux, dict) else None
    path = next((entry.get("path") for entry in entries or [] if entry["type"] == "network"), None)
    if not path:
        return  # it went with the machine
    try:
        namespace = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        _run([{"kind": "network", "fd": namespace, "flags": 0}], {"op": "network_release"}, (namespace,))
    except EngineError as error:
        if error.op:
            raise
        # It is another file now, or one that this user may not join: then nothing of this user's is in there.
    finally:
        os.close(namespace)


def _run(join: list[Op], op: Op, descriptors: tuple[int, ...]) -> None:
    """One operation in other namespaces, as a process of its own that ends with it."""
    null = os.open(_NULL, os.O_RDWR | os.O_CLOEXEC)
    children: list[int] = []
    handlers = Handlers(child=children.append, barrier=lambda _: None, console=os.close, seccomp_listener=os.close)
    plan: Plan = {"version": 1, "join": join, "ops": [{"op": "no_new_privs"}, op]}
    try:
        launch_engine(Launch(plan, stdio=(null, null, null), descriptors=descriptors, handlers=handlers))
    finally:
        os.close(null)
        for pid in children:
            _reap(pid)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # whoever embeds this reaps all children itself


def _user_namespace(pid: int) -> int:
    """CLONE_NEWUSER, unless the process's user namespace is this one's, which cannot be joined."""
    ours, theirs = os.stat("/proc/self/ns/user"), os.stat(f"/proc/{pid}/ns/user")
    return 0 if ours.st_ino == theirs.st_ino else _CLONE_NEWUSER

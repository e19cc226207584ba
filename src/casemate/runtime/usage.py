"""What a container uses and may use, and whether it is halted: the host's cgroup tells and decides, and where the container's kernel is a guest's, that
guest's cgroup of the container, too.
"""

from __future__ import annotations

from casemate.isolation import registry
from casemate.runtime import control, store
from casemate.runtime.container import PAUSED, Container


def stats(container: Container) -> dict[str, object]:
    """As runc's `events --stats`. Of a guest's container the figures are its own; while the machine is halted, which cannot answer then, the machine's.

    Raises CgroupError, ContainerStateError, WireError.
    """
    of_host = container.cgroup().stats()
    own = _asked_of_guest(container)
    if own is None:
        return of_host
    of_host["cpu"] = {**_section(of_host, "cpu"), "usage": {"total": own["cpu_us"] * 1000, "kernel": own["system_us"] * 1000, "user": own["user_us"] * 1000}}
    usage = {"limit": own["memory_limit"] or (1 << 64) - 1, "usage": own["memory"], "max": own["memory_peak"], "failcnt": 0}
    of_host["memory"] = {**_section(of_host, "memory"), "usage": usage}
    of_host["pids"] = {"current": own["pids"], "limit": own["pids_limit"]}
    return of_host


def oom_kills(container: Container) -> int:
    """How often a kernel killed a process for the memory limit's sake: the host's, or the guest's."""
    return container.cgroup().oom_kills() + _oom_kills_of_guest(container)


def _oom_kills_of_guest(container: Container) -> int:
    if not registry.get(container.record.isolation).has_own_kernel:
        return 0
    if container.is_alive():
        own = _asked_of_guest(container)
        return own["oom_kills"] if own else 0
    try:
        text = container.entry.read(store.REPORT_FILE)  # the machine's last word
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0


def pause(container: Container) -> None:
    """Halts all processes. A machine is halted as a whole; a further container of one in its guest. Raises CgroupError, ContainerStateError."""
    isolation = registry.get(container.record.isolation)
    if _is_in_a_guest_of_another(container):
        control.ask(container, {"request": "freeze", "frozen": True})
    container.cgroup().freeze(calls_may_wait=isolation.has_control)


def resume(container: Container) -> None:
    """Lets all processes go on. Raises CgroupError, ContainerStateError."""
    container.cgroup().thaw()
    if _is_in_a_guest_of_another(container):
        control.ask(container, {"request": "freeze", "frozen": False})


def limit(container: Container, changes: dict[str, object], merged: dict[str, object]) -> None:
    """Changes limits. `merged`: all resources with them. Raises CgroupError, ContainerStateError, HostError for what a running machine cannot have."""
    isolation = registry.get(container.record.isolation)
    if isolation.has_own_kernel and (changes.get("memory") or changes.get("pids")):
        limits = {name: _positive(_section(merged, name).get("limit")) for name in ("memory", "pids")}
        control.ask(container, {"request": "limits", **limits})
    host = isolation.host_resources(changes)
    if "devices" not in changes:
        host.pop("devices", None)  # those of the start go on to hold
    container.cgroup().update(host)


def _asked_of_guest(container: Container) -> dict[str, int] | None:
    """The guest's answer; None where there is no guest, or it is halted."""
    if not registry.get(container.record.isolation).has_own_kernel or container.status() == PAUSED:
        return None
    answer = _section(control.ask(container, {"request": "stats"}), "stats")
    names = ("cpu_us", "user_us", "system_us", "memory", "memory_peak", "memory_limit", "pids", "pids_limit", "oom_kills")
    return {name: _positive(answer.get(name)) for name in names}


def _is_in_a_guest_of_another(container: Container) -> bool:
    return bool(container.record.sandbox) and registry.get(container.record.isolation).has_own_kernel


def _section(values: dict[str, object], name: str) -> dict[str, object]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _positive(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0

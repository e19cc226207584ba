"""The systemd driver: the container's cgroup is a transient unit that systemd makes around the first process.

Spoken to over D-Bus directly; busctl and systemd-run cost a process each and are not everywhere.
"""

from __future__ import annotations

import os
from typing import Any

from casemate.errors import CgroupError
from casemate.host.cgroup.convert import swap_of_memory_and_swap, weight_of_shares
from casemate.host.cgroup.dbus import Bus
from casemate.host.cgroup.dbus_wire import DbusError
from casemate.host.cgroup.fields import Section

_SERVICE, _PATH, _MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_SYSTEM_BUS = "/run/dbus/system_bus_socket"
_INFINITY = (1 << 64) - 1
_GONE = ("org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject")
_DEFAULT_PERIOD = 100000


class Scope:
    """slice_name: "machine.slice".   unit: "prefix-name.scope", or a slice.   is_user: of the user's own systemd.   started: the unit runs."""

    def __init__(self, slice_name: str, unit: str, *, is_user: bool, is_v2: bool) -> None:
        self.slice_name = slice_name
        self.unit = unit
        self.is_user = is_user
        self.is_v2 = is_v2
        self.started = False

    def check(self) -> None:
        """Raises CgroupError if systemd or its bus is not there."""
        remedy = "leave --systemd-cgroup out (in an engine's settings: cgroup manager cgroupfs)"
        if not os.path.isdir(_BOOTED):
            raise CgroupError("--systemd-cgroup: systemd does not run on this host", path=_BOOTED, remedy=remedy)
        path = self._bus_path()
        if not path.startswith("@") and not os.path.exists(path):
            raise CgroupError("--systemd-cgroup: no D-Bus daemon to reach systemd by", path=path, remedy=remedy)

    def root_directory(self) -> str:
        """The cgroup that this systemd manages: empty for the system's, `/user.slice/.../user@UID.service` for a user's."""
        if not self.is_user:
            return ""
        with self._bus() as bus:
            answer = self._call(bus, "Get", "ss", _MANAGER, "ControlGroup", interface="org.freedesktop.DBus.Properties")
        path = str(answer[0]).rstrip("/")
        if ".." in path.split("/") or (path and not path.startswith("/")):
            raise CgroupError(f"systemd names {path!r} as its cgroup")
        return path

    def start(self, pid: int, resources: dict[str, object]) -> None:
        """Makes the unit around process `pid` and waits until systemd says it is done. Raises CgroupError."""
        with self._bus() as bus:
            try:
                bus.subscribe(f"type='signal',sender='{_SERVICE}',interface='{_MANAGER}',member='JobRemoved'")
                self._call(bus, "Subscribe")
                job = self._start_unit(bus, pid, resources)
                self._wait(bus, job)
            except (OSError, DbusError) as error:
                raise self._failure("cannot start it", error) from error
        self.started = True

    def _start_unit(self, bus: Bus, pid: int, resources: dict[str, object]) -> str:
        arguments: tuple[Any, ...] = (self.unit, "replace", self.properties(pid, resources), [])
        try:
            return str(self._call(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)[0])
        except DbusError as error:
            if error.name != "org.freedesktop.systemd1.UnitExists":
                raise
        # The rest of an earlier container of this name, ended but remembered as failed.
        self._call(bus, "ResetFailedUnit", "s", self.unit)
        return str(self._call(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)[0])

    def _wait(self, bus: Bus, job: str) -> None:
        while True:
            signal = bus.next_signal()  # JobRemoved: u id, o job, s unit, s result
            if signal.member == "JobRemoved" and len(signal.body) == 4 and signal.body[1] == job:
                if signal.body[3] != "done":
                    raise DbusError(f"the job ended with {signal.body[3]!r}")
                return

    def stop(self) -> None:
        """Ends the unit; nothing if there is none. Raises CgroupError."""
        with self._bus() as bus:
            for member, signature, arguments in (
                ("StopUnit", "ss", (self.unit, "replace")),
                ("ResetFailedUnit", "s", (self.unit,)),
            ):
                try:
                    self._call(bus, member, signature, *arguments)
                except DbusError as error:
                    if error.name not in _GONE:
                        raise self._failure("cannot stop it", error) from error
                except OSError as error:
                    raise self._failure("cannot stop it", error) from error

    def properties(self, pid: int, resources: dict[str, object]) -> list[tuple[str, tuple[str, Any]]]:
        """The unit's properties. Those limits that systemd knows are told it too, as it writes its own idea of them at each reload."""
        known: list[tuple[str, tuple[str, Any]]] = [
            ("Description", ("s", f"casemate container {self.unit}")),
            ("DefaultDependencies", ("b", False)),
            ("MemoryAccounting", ("b", True)),
            ("CPUAccounting", ("b", True)),
            ("TasksAccounting", ("b", True)),
        ]
        if self.unit.endswith(".slice"):
            known.append(("Wants", ("as", [self.slice_name])))
        else:
            known += [("Slice", ("s", self.slice_name)), ("Delegate", ("b", True)), ("PIDs", ("au", [pid]))]
        return [*known, *self._limits(resources)]

    def _limits(self, resources: dict[str, object]) -> list[tuple[str, tuple[str, Any]]]:
        memory, cpu, pids = (Section(resources, name) for name in ("memory", "cpu", "pids"))
        limits: list[tuple[str, int]] = []
        limit, shares = memory.set_integer("limit"), cpu.set_integer("shares")
        if limit:
            limits.append(("MemoryMax" if self.is_v2 else "MemoryLimit", limit))
        if self.is_v2:
            swap = swap_of_memory_and_swap(memory.set_integer("swap"), limit)
            if swap:
                limits.append(("MemorySwapMax", -1 if swap == "max" else int(swap)))
            if reservation := memory.set_integer("reservation"):
                limits.append(("MemoryLow", reservation))
        if shares:
            limits.append(("CPUWeight", weight_of_shares(shares)) if self.is_v2 else ("CPUShares", shares))
        if task_limit := pids.set_integer("limit"):
            limits.append(("TasksMax", task_limit))
        quota = cpu.set_integer("quota")
        if quota:
            per_second = quota * 1_000_000 // (cpu.set_integer("period") or _DEFAULT_PERIOD)
            # systemd keeps whole percents (10 ms a second); rounded up, so that it is no lower than asked.
            limits.append(("CPUQuotaPerSecUSec", -(-per_second // 10_000) * 10_000 if quota > 0 else -1))
        return [(name, ("t", value if value >= 0 else _INFINITY)) for name, value in limits]

    def to_state(self) -> list[object]:
        return [self.slice_name, self.unit, self.is_user, self.is_v2]

    @classmethod
    def from_state(cls, value: object) -> Scope:
        """Raises CgroupError for what `to_state` did not write."""
        if not isinstance(value, list) or len(value) != 4:
            raise CgroupError("the container's state names no systemd unit")
        scope = cls(str(value[0]), str(value[1]), is_user=value[2] is True, is_v2=value[3] is True)
        scope.started = True  # a later command never starts it
        return scope

    def _bus_path(self) -> str:
        if not self.is_user:
            return _SYSTEM_BUS
        address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        for part in address.split(";"):
            kind, _, rest = part.partition(":")
            for key, _, value in (pair.partition("=") for pair in rest.split(",")):
                if kind == "unix" and key in ("path", "abstract"):
                    return value if key == "path" else "@" + value
        return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}", "bus")

    def _bus(self) -> Bus:
        try:
            return Bus(self._bus_path())
        except (OSError, DbusError) as error:
            raise self._failure("cannot reach systemd", error) from error

    def _call(self, bus: Bus, member: str, signature: str = "", *values: Any, interface: str = _MANAGER) -> list[Any]:
        return bus.call(_SERVICE, _PATH, interface, member, signature, *values)

    def _failure(self, what: str, error: Exception) -> CgroupError:
        return CgroupError(f"systemd unit {self.unit}: {what}: {error}", path=self._bus_path(), errno=getattr(error, "errno", 0) or 0)

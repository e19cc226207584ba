"""One container's cgroup, over all hierarchies that this host has.

    manager = open_manager(None, "web", systemd=False, rootless=False)
    manager.create(); manager.apply(resources); manager.join(pid) ... manager.destroy()

Between commands it lives in the container's record: `to_state`, `from_state`. A manager that has not yet created its cgroup (`owned` is
false) sees no processes and kills none, so cleaning up after a refused `create` cannot touch whoever holds that cgroup.

Measured on Linux 6.18, hybrid with 10 hierarchies (2 cores): open 0.6 ms, create 0.45, the default device rules 0.2, destroy 0.2. Joining is
0.1 ms of work, and 4 to 10 ms of waiting for an RCU grace period in the first write of a `cgroup.procs` after a quiet time
(cgroup_threadgroup_rwsem). A process that writes `0` to v1's `tasks` for itself does not wait: see `join_files`.
"""

from __future__ import annotations

import errno

from casemate.errors import CgroupError
from casemate.host.cgroup import files, freezer, processes, tree, writer
from casemate.host.cgroup import mounts as mounting
from casemate.host.cgroup.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.host.cgroup.oom import OomSource
    from casemate.host.cgroup.systemd import Scope

_UNREACHABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)


class Manager:
    """mode: "v1", "v2", "hybrid" or "none".   places: the container's directories, v1 first.   owned: whether `create` succeeded.
    scope: the systemd unit that holds the container, with the systemd driver."""

    def __init__(self, mode: str, places: list[Place], *, rootless: bool, scope: Scope | None = None) -> None:
        self.mode = mode
        self.places = places
        self.rootless = rootless
        self.scope = scope
        self.owned = False
        self._has_limits = False
        self._pending: dict[str, object] | None = None

    def paths(self) -> dict[str, str]:
        """controller (or `name=systemd`; empty for v2) -> the container's directory on the host."""
        return {name: place.path for place in self.places for name in place.controllers or ("",)}

    def create(self) -> None:
        """Makes the directories. Raises CgroupError, and then has removed those it made.

        Rootless, the hierarchies it may not write are left out; a resource that needs one of them is refused by `apply`.
        """
        if self.scope is not None:
            self.scope.check()  # systemd makes the cgroup itself, around the first process
            self.owned = True
            return
        made: list[Place] = []
        try:
            kept = [place for place in self.places if self._make(place, made)]
        except CgroupError:
            tree.remove_if_empty(made)
            raise
        self.places = kept
        self.owned = True

    def _make(self, place: Place, made: list[Place]) -> bool:
        try:
            if tree.make(place, gives_controllers=not self.has_v1_controllers()):
                made.append(place)
        except OSError as error:
            if self.rootless and error.errno in _UNREACHABLE:
                return False
            raise files.failure(error, "cannot make the container's cgroup", controller=place.label, path=place.path) from error
        return True

    def apply(self, resources: dict[str, object]) -> None:
        """Sets `linux.resources` and the device rules (the default ones at least). Raises CgroupError naming the field."""
        self.apply_limits(resources)
        self.apply_devices(resources)

    def apply_limits(self, resources: dict[str, object]) -> None:
        """The half of `apply` that has to be done before a process is in the cgroup."""
        if self.scope is not None and not self.scope.started:
            self._pending = resources
            return
        self._write(resources)

    def apply_devices(self, resources: dict[str, object]) -> None:
        """The other half: before a program runs."""
        if self.scope is None or self.scope.started:
            self._apply_devices(resources.get("devices"))

    def update(self, resources: dict[str, object]) -> None:
        """Changes the limits given and leaves others, device rules included, as they are. Raises CgroupError."""
        self._write(resources)
        if resources.get("devices") is not None:
            self._apply_devices(resources["devices"])

    def _apply_devices(self, rules: object) -> None:
        from casemate.host.cgroup import device_access  # the verbs that only look need none of it

        device_access.apply(self.places, rules, rootless=self.rootless)

    def _write(self, resources: dict[str, object]) -> None:
        if not any(value for name, value in resources.items() if name != "devices"):
            return
        self._has_limits = True
        v2 = [place for place in self.places if place.version == 2]
        for_v2 = resources
        if self.has_v1_controllers():
            from casemate.host.cgroup import lower_v1

            v1 = [place for place in self.places if place.version == 1]
            for_v2 = writer.sections_of_v2(self.places, resources)
            rest = {name: value for name, value in resources.items() if name not in for_v2}
            writer.write_all(v1, lower_v1.lower(rest, lambda *file: writer.read_current(v1, *file)))
            if not for_v2:
                return
            tree.give_controllers(v2[0])
        from casemate.host.cgroup import lower_v2

        writer.write_all(v2, lower_v2.lower(for_v2, lambda *file: writer.read_current(v2, *file)))

    def has_v1_controllers(self) -> bool:
        """Whether limits are v1's: some hosts have v1 for systemd's own hierarchy only."""
        if self.mode == "v1":
            return True
        return any(not name.startswith("name=") for place in self.places for name in place.controllers)

    def join(self, pid: int, *, beside: int = 0) -> None:
        """Puts a process into the cgroup. Raises CgroupError; its errno is ESRCH if the process is gone.

        beside: the container's first process; see processes.join.
        """
        if self.scope is not None and not self.scope.started:
            self.scope.start(pid, self._pending or {})
            self._adopt(self._pending or {})
        for place in self.places:
            try:
                processes.join(place, pid, beside)
            except CgroupError as error:
                # A directory of one's own is not enough on v2: moving takes the right to write the common parent as well. Without limits
                # nothing is lost by staying outside; with limits it would be a container that they do not hold.
                if not self.rootless or self._has_limits or error.errno not in (errno.EACCES, errno.EPERM):
                    raise

    def _adopt(self, resources: dict[str, object]) -> None:
        """After systemd made the unit: the hierarchies it does not manage, and the limits it has no property for."""
        for place in self.places:
            if files.read_or(place.file("cgroup.procs"), "-") == "-":
                self._make(place, [])
        self.apply(resources)

    def join_files(self) -> tuple[list[str], str]:
        """How a process with one thread joins without the wait: (v1's `tasks` files, each to be sent `0` by the process itself; the v2
        directory for clone3's CLONE_INTO_CGROUP, empty without one). A child it then clones is in all of them.

        Measured after 150 ms of quiet, medians of 12: nine `tasks` files 0.28 ms and CLONE_INTO_CGROUP 0.1 ms more than a plain clone,
        where `join` takes 8.8 ms.
        """
        tasks = [place.file("tasks") for place in self.places if place.version == 1]
        return tasks, next((place.path for place in self.places if place.version == 2), "")

    def limit_files(self) -> dict[str, str]:
        """Files of the limits that a program sees where its kernel is not the host's: name -> path; those whose controller is there."""
        names = {
            "memory_limit": (("memory", "memory.limit_in_bytes"), "memory.max"),
            "memory_used": (("memory", "memory.usage_in_bytes"), "memory.current"),
            "cpu_quota": (("cpu", "cpu.cfs_quota_us"), "cpu.max"),
            "cpu_period": (("cpu", "cpu.cfs_period_us"), ""),
            "pids_limit": (("pids", "pids.max"), "pids.max"),
        }
        found = {}
        for name, ((controller, v1), v2) in names.items():
            of_v1 = next((place.file(v1) for place in self.places if controller in place.controllers), "")
            of_v2 = next((place.file(v2) for place in self.places if place.version == 2 and v2 and not self.has_v1_controllers()), "")
            if of_v1 or of_v2:
                found[name] = of_v1 or of_v2
        return found

    def freeze(self, *, calls_may_wait: bool = False) -> None:
        """Stops all processes; calls_may_wait: see freezer.freeze. Raises CgroupError: no freezer, or not within 2 s."""
        freezer.freeze(self.places, calls_may_wait=calls_may_wait)

    def thaw(self) -> None:
        """Lets all processes run on."""
        freezer.thaw(self.places)

    def frozen(self) -> bool:
        """Whether the container is frozen."""
        return freezer.is_frozen(self.places)

    def pids(self, all: bool = True) -> list[int]:
        """The processes, sorted; with `all` also those in cgroups that the container made. Empty if the cgroup is gone or not ours."""
        return processes.pids(self.places, below=all) if self.owned else []

    def kill_all(self, signal: int) -> None:
        """Signals all processes; SIGKILL waits until they are gone (10 s at most). Raises CgroupError."""
        if self.owned:
            processes.kill_all(self.places, signal)

    def stats(self) -> dict[str, object]:
        """Statistics in the shape of runc's `events --stats` (its `data`)."""
        if self.has_v1_controllers():
            from casemate.host.cgroup import stats_v1

            return stats_v1.collect(self.places)
        from casemate.host.cgroup import stats_v2

        return stats_v2.collect(self.places)

    def consumption(self) -> tuple[int, int]:
        """Processor time so far in ns, and the most memory at once in bytes, for one read each; 0 where the host does not count."""
        from casemate.host.cgroup import consumption

        return consumption.cpu_ns(self.places), consumption.memory_peak(self.places)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for the memory limit."""
        from casemate.host.cgroup import oom

        return oom.kills(self.places)

    def oom_event_source(self) -> OomSource:
        """What tells of out-of-memory kills as they happen; the caller closes it. Raises CgroupError without a memory controller."""
        from casemate.host.cgroup import oom

        return oom.OomSource(self.places)

    def mounts(self, has_cgroup_namespace: bool) -> list[dict[str, object]]:
        """What the container's /sys/fs/cgroup is made of: see mounts.mounts."""
        return mounting.mounts(self.places, self.mode, has_cgroup_namespace=has_cgroup_namespace)

    def destroy(self) -> None:
        """Removes the container's cgroup and all below it; parents stay. May be repeated. Raises CgroupError if processes stay in it."""
        if not self.owned:
            tree.remove_if_empty(self.places)  # create was killed before it could say what it made
            return
        if self.scope is not None:
            self.scope.stop()
        tree.remove(self.places)

    def to_state(self) -> dict[str, object]:
        """What `from_state` needs, as JSON."""
        return {
            "mode": self.mode,
            "owned": self.owned,
            "rootless": self.rootless,
            "places": [place.to_state() for place in self.places],
            "scope": self.scope.to_state() if self.scope is not None else None,
        }

    @classmethod
    def from_state(cls, state: dict[str, object]) -> Manager:
        """Raises CgroupError for what `to_state` did not write."""
        places = state.get("places")
        if not isinstance(places, list):
            raise CgroupError("the container's state has no cgroup")
        scope = None
        if state.get("scope"):
            from casemate.host.cgroup.systemd import Scope

            scope = Scope.from_state(state["scope"])
        manager = cls(
            str(state.get("mode")),
            [Place.from_state(place) for place in places],
            rootless=state.get("rootless") is True,
            scope=scope,
        )
        manager.owned = state.get("owned") is True
        return manager

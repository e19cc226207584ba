"""linux.namespaces, uidMappings, gidMappings, timeOffsets. Source: config-linux.md "Namespaces"."""

from __future__ import annotations

import os

from casemate.errors import HostError
from casemate.oci.plan import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.plan import PlanBuilder

    Object = dict[str, object]

# A user namespace is joined first: joining the others needs capabilities in it. pid last of all but mount, whose /proc is then still ours.
_JOIN_ORDER = ("user", "ipc", "uts", "network", "pid", "time", "cgroup", "mount")


def create(linux: Object, plan: PlanBuilder) -> None:
    """Joins those with a path, creates the others."""
    entries = {entry["type"]: entry.get("path") for entry in linux.get("namespaces") or []}  # type: ignore[attr-defined]
    for kind in _JOIN_ORDER:
        if entries.get(kind):
            fd = plan.context.open_namespace(str(entries[kind]))
            plan.join.append({"kind": kind, "fd": fd, "flags": 0})
    new = [kind for kind, path in entries.items() if not path]
    plan.new += [kind for kind in new if kind not in ("cgroup", "time")]
    if "user" in new:
        plan.id_maps = _id_maps(linux, plan)
    if "user" in entries:
        plan.add(Phase.IDENTITY, "become_root")
    if "network" in new:
        plan.add(Phase.NETWORK, "loopback_up")
    if "cgroup" in new:
        plan.add(Phase.CGROUP_NAMESPACE, "unshare", kinds=["cgroup"])
    if "time" in new:
        plan.add(Phase.CGROUP_NAMESPACE, "unshare", kinds=["time"])
        _time_offsets(linux, plan)


def has_user_namespace(linux: Object) -> bool:
    return any(entry["type"] == "user" for entry in linux.get("namespaces") or [])  # type: ignore[attr-defined]


def _id_maps(linux: Object, plan: PlanBuilder) -> Object:
    host = plan.context.host
    uid, gid = _triples(linux.get("uidMappings")), _triples(linux.get("gidMappings"))
    maps: Object = {"uid": uid, "gid": gid, "setgroups": "allow", "uid_helper": None, "gid_helper": None}
    if host.is_privileged:
        return maps
    if _is_own_id(uid, host.euid) and _is_own_id(gid, os.getegid()):
        # user_namespaces(7): without privilege, one's own id only, and setgroups given up first.
        return {**maps, "setgroups": "deny"}
    if not (host.newuidmap and host.newgidmap):
        raise HostError("linux.uidMappings: more than one's own id needs newuidmap and newgidmap", "install the package uidmap")
    return {**maps, "uid_helper": host.newuidmap, "gid_helper": host.newgidmap}


def _triples(mappings: object) -> list[list[int]]:
    return [[m["containerID"], m["hostID"], m["size"]] for m in mappings or []]  # type: ignore[attr-defined]


def _is_own_id(mapping: list[list[int]], own: int) -> bool:
    return len(mapping) == 1 and mapping[0][1] == own and mapping[0][2] == 1


def _time_offsets(linux: Object, plan: PlanBuilder) -> None:
    offsets = linux.get("timeOffsets")
    if not isinstance(offsets, dict):
        return
    given = {clock: offsets.get(clock) for clock in ("monotonic", "boottime")}
    clocks = {clock: None if offset is None else [offset.get("secs") or 0, offset.get("nanosecs") or 0] for clock, offset in given.items()}
    plan.add(Phase.CGROUP_NAMESPACE, "time_offsets", **clocks)

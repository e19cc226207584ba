"""Finds where a new container's cgroup will be, and opens what a process needs to join one."""

from __future__ import annotations

import os

from casemate.errors import CgroupError
from casemate.host.cgroup import hierarchy, placement
from casemate.host.cgroup.manager import Manager
from casemate.host.cgroup.place import Place


def open_manager(
    cgroups_path: str | None,
    container_id: str,
    *,
    systemd: bool,
    rootless: bool,
    root: str = "/sys/fs/cgroup",
    mountinfo: str = "/proc/self/mountinfo",
    self_cgroup: str = "/proc/self/cgroup",
) -> Manager:
    """The manager of a new container's cgroup; changes nothing yet.

    cgroups_path: `linux.cgroupsPath`; None: `/casemate/ID`. Absolute: below each hierarchy's mount. Relative: below this process's own
    cgroup (v2: beside it). With `systemd`: `slice:prefix:name`.   root, mountinfo, self_cgroup: where to look.
    Raises CgroupError: the path is not acceptable, or systemd is asked for and does not run.
    """
    found = hierarchy.find(root=root, mountinfo=mountinfo, self_cgroup=self_cgroup)
    mode = hierarchy.mode_of(found)
    if mode == "none" and not rootless:
        raise CgroupError("no cgroup filesystem is mounted", path=root, remedy=f"mount -t cgroup2 cgroup2 {root}, or run rootless")
    if systemd:
        return _open_systemd(cgroups_path, container_id, found, mode, rootless)
    path = placement.clean(cgroups_path, container_id)
    places = [Place.of(one, placement.directory(one, path)) for one in found]
    return Manager(mode, places, rootless=rootless)


def _open_systemd(cgroups_path: str | None, container_id: str, found: list[hierarchy.Hierarchy], mode: str, rootless: bool) -> Manager:
    from casemate.host.cgroup.systemd import Scope  # D-Bus: not on the lean path

    slice_name, unit = placement.systemd_unit(cgroups_path, container_id, rootless=rootless)
    scope = Scope(slice_name, unit, is_user=rootless, is_v2=mode == "v2")
    scope.check()
    directory = f"{scope.root_directory()}{placement.slice_directory(slice_name)}/{unit}"
    return Manager(mode, [Place.of(one, one.mount + directory) for one in found], rootless=rootless, scope=scope)


def open_cgroup(manager: Manager, descriptors: list[int]) -> dict[str, object] | None:
    """The cgroup's files as the plan takes them, added to `descriptors`; None where systemd moves the process (at the barrier)."""
    if manager.scope is not None:
        return None
    tasks, directory = manager.join_files()
    first = len(descriptors)
    for path in tasks:  # one by one: what is open when the next fails is the caller's to close
        descriptors += (os.open(path, os.O_WRONLY | os.O_CLOEXEC),)
    opened = descriptors[first:]
    into = None
    if directory:
        into = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        descriptors.append(into)
    return {"tasks": opened, "into": into}

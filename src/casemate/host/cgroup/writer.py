"""Carries out writes of limits on a container's directories."""

from __future__ import annotations

import errno
import os

from casemate.errors import CgroupError
from casemate.host.cgroup import files
from casemate.host.cgroup.fields import Write
from casemate.host.cgroup.place import Place

# section of linux.resources: its controller's name in v1 and in v2
_SECTIONS = {
    "memory": ("memory", "memory"),
    "cpu": ("cpu", "cpu"),
    "pids": ("pids", "pids"),
    "blockIO": ("blkio", "io"),
    "hugepageLimits": ("hugetlb", "hugetlb"),
    "rdma": ("rdma", "rdma"),
}


def place_of(places: list[Place], controller: str) -> Place | None:
    """Where a controller's files are; every controller of v2 is in its one place."""
    for place in places:
        if place.version == 2 or controller in place.controllers:
            return place
    return None


def read_current(places: list[Place], controller: str, file: str) -> str | None:
    """A file's text; None where controller or file does not exist."""
    place = place_of(places, controller)
    if place is None:
        return None
    try:
        return files.read(place.file(file)).rstrip("\n")
    except OSError:
        return None


def sections_of_v2(places: list[Place], resources: dict[str, object]) -> dict[str, object]:
    """Of a hybrid host: the sections of `linux.resources` whose controller is v2's there, because v1 has not mounted it."""
    unified = places[-1] if places and places[-1].version == 2 else None
    if unified is None:
        return {}
    in_v1 = {name for place in places for name in place.controllers}
    wanted = {section: names for section, names in _SECTIONS.items() if resources.get(section) and names[0] not in in_v1}
    if not wanted:
        return {}
    in_v2 = files.read_or(f"{unified.mount}/cgroup.controllers", "").split()
    return {section: resources[section] for section, names in wanted.items() if names[1] in in_v2}


def write_all(places: list[Place], writes: list[Write]) -> None:
    """Writes in order. One refused with EINVAL is tried again after the rest: its bound may have been among them.

    Raises CgroupError naming controller, file and field of the first write that failed for good.
    """
    refused = [write for write in writes if not _write(places, write, is_last_try=False)]
    for write in refused:
        _write(places, write, is_last_try=True)


def _write(places: list[Place], write: Write, *, is_last_try: bool) -> bool:
    place = place_of(places, write.controller)
    if place is None:
        if write.optional:
            return True
        raise _no_controller(write)
    path = place.file(write.file)
    try:
        files.write(path, write.value)
    except OSError as error:
        if write.optional and error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL):
            return True
        if error.errno == errno.EINVAL and not is_last_try:
            return False
        if error.errno in (errno.ENOENT, errno.EACCES) and place.version == 2 and not _has(place, write.controller):
            raise CgroupError(
                f"the {write.controller} controller is not available to the container", controller=write.controller,
                path=path, field=write.field, errno=error.errno,
                remedy="enable it in cgroup.subtree_control of all parents",
            ) from error  # fmt: skip
        raise files.failure(error, f"cannot write {write.value!r}", controller=write.controller, path=path, field=write.field) from error
    return True


def _no_controller(write: Write) -> CgroupError:
    if os.geteuid() != 0:
        return CgroupError(
            f"this user may make no cgroup of the {write.controller} controller", controller=write.controller, field=write.field, errno=errno.EACCES,
            remedy=f"start from one that is yours, as with `systemd-run --user --scope -p Delegate=yes`, or ask for no limit of {write.controller}",
        )  # fmt: skip
    return CgroupError(
        f"this host has no {write.controller} controller for the container", controller=write.controller, field=write.field, errno=errno.ENOENT,
        remedy=f"mount it, have it delegated, or leave {write.field} out",
    )  # fmt: skip


def _has(place: Place, controller: str) -> bool:
    return not controller or controller in files.read_or(place.file("cgroup.controllers"), "").split()

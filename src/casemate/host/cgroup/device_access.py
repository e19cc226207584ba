"""Puts device rules into force, on v1 by files, on v2 by a program."""

from __future__ import annotations

import errno
import os

from casemate.errors import CgroupError
from casemate.host.cgroup import devices, devices_v1, files
from casemate.host.cgroup.place import Place

_FIELD = "linux.resources.devices"
_WHOLE_RANGE = ["0", "0", "4294967295"]


def apply(places: list[Place], value: object, *, rootless: bool) -> None:
    """Applies `linux.resources.devices` (None: the default rules alone). Raises CgroupError.

    Rootless, or in a user namespace, the kernel may refuse rules. That opens nothing: mknod of devices is refused there too, so the
    container has only the nodes bound in for it, and opens them with no more right than the user who started it.
    """
    rules = devices.rules_of(value)
    place = _place(places)
    if place is None:
        if rootless:
            return
        raise CgroupError(
            "no devices controller: the container could open every device it makes", controller="devices", field=_FIELD,
            remedy="mount cgroup2, or v1's devices hierarchy below /sys/fs/cgroup",
        )  # fmt: skip
    try:
        if place.version == 2:
            _apply_v2(place, rules)
        else:
            _apply_v1(place, rules)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOENT) and (rootless or _in_user_namespace()):
            return
        raise files.failure(error, "cannot set the device rules", controller="devices", path=place.path, field=_FIELD) from error


def _place(places: list[Place]) -> Place | None:
    """v1's devices hierarchy; else the unified one, whose programs need no controller (so also on a hybrid host without the former)."""
    for place in places:
        if "devices" in place.controllers or place.version == 2:
            return place
    return None


def _apply_v1(place: Place, rules: list[devices.Rule]) -> None:
    writes = devices_v1.lower(rules, files.read(place.file("devices.list")))
    opened: dict[str, int] = {}
    try:
        for file, value in writes:
            if file not in opened:
                opened[file] = os.open(place.file(file), os.O_WRONLY | os.O_CLOEXEC)
            os.write(opened[file], value.encode())  # one rule a write is what the kernel parses
    finally:
        for fd in opened.values():
            os.close(fd)


def _apply_v2(place: Place, rules: list[devices.Rule]) -> None:
    from casemate.host.cgroup import bpf, device_program

    bpf.replace_device_programs(place.path, device_program.assemble(rules))


def _in_user_namespace() -> bool:
    return files.read_or("/proc/self/uid_map", "").split() != _WHOLE_RANGE

"""The processes of a container's cgroup: who they are, and signals to all."""

from __future__ import annotations

import _signal
import errno
import os
import time

from casemate.errors import CgroupError
from casemate.host.cgroup import files, freezer, tree
from casemate.host.cgroup.place import Place

_DEATH_S = 10  # how long to wait for the killed: a machine's memory is given back first, and the host may be busy
_EINVAL_TRIES = 5


def join(place: Place, pid: int, beside: int = 0) -> None:
    """Puts a process, threads and all, into the directory. Raises CgroupError; its errno is ESRCH if the process is gone.

    beside: a process of the container; where v2 refuses the directory because its programs made cgroups of their own in it (EBUSY, as
    systemd in a container does), the new one goes where that one is.
    """
    path = place.path
    for attempt in range(_EINVAL_TRIES):
        try:
            files.write(f"{path}/cgroup.procs", str(pid))
            return
        except OSError as error:
            if error.errno == errno.EBUSY and beside and place.version == 2 and path == place.path:
                path = _cgroup_of(place, beside)
            elif error.errno == errno.EINVAL and place.version == 1 and attempt < _EINVAL_TRIES - 1:
                time.sleep(0.005)  # v1's cpu controller refuses a task that is still being forked (runc cgroups.WriteCgroupProc)
            else:
                raise files.failure(error, f"cannot put process {pid} into it", controller=place.label, path=path) from error


def _cgroup_of(place: Place, pid: int) -> str:
    """The directory, at or below `place`, of a process that is in it."""
    for line in files.read_or(f"/proc/{pid}/cgroup", "").splitlines():
        if line.startswith("0::"):
            path = place.mount + line[3:]
            if path.startswith(place.path + "/") and ".." not in path.split("/"):
                return path
    return place.path


def pids(places: list[Place], *, below: bool) -> list[int]:
    """The processes' ids, sorted; with `below` also those of cgroups that the container made in its own."""
    found: set[int] = set()
    for place in _sources(places):
        for directory in tree.walk(place.path) if below else [place.path]:
            found.update(int(pid) for pid in files.read_or(f"{directory}/cgroup.procs", "").split())
    found.discard(0)  # a process of another pid namespace
    return sorted(found)


def _sources(places: list[Place]) -> list[Place]:
    """The unified place and one of v1: a process may be in one of them only while it is being added."""
    by_version: dict[int, Place] = {}
    for place in places:
        by_version.setdefault(place.version, place)
    return list(by_version.values())


def kill_all(places: list[Place], signal: int) -> None:
    """Signals every process, none of which can escape by forking. SIGKILL also thaws and waits until all are gone.

    Raises CgroupError if killed processes do not end in 10 s.
    """
    if signal != _signal.SIGKILL:
        _signal_frozen(places, signal)
        return
    for place in places:
        if place.version == 2:
            try:
                files.write(place.file("cgroup.kill"), "1")  # Linux 5.14: atomic against fork, works on frozen ones
            except FileNotFoundError:
                pass
            except OSError as error:
                raise files.failure(error, "cannot kill", controller=place.label, path=place.path) from error
    _kill_rest(places)


def _signal_frozen(places: list[Place], signal: int) -> None:
    was_frozen = freezer.is_frozen(places)
    if not was_frozen and freezer.can_freeze(places):
        freezer.freeze(places)
    try:
        for pid in pids(places, below=True):
            _send(pid, signal)
    finally:
        if not was_frozen:
            freezer.thaw(places)


def _kill_rest(places: list[Place]) -> None:
    """v1 and kernels before 5.14: again and again until none is left; each round the forks since the last one are fewer."""
    deadline = time.monotonic() + _DEATH_S
    pauses = iter((0.0002,) * 5)
    while left := pids(places, below=True):
        for pid in left:
            _send(pid, _signal.SIGKILL)
        if freezer.is_frozen(places):
            freezer.thaw(places)  # the v1 freezer holds even the killed
        if time.monotonic() > deadline:
            raise CgroupError(
                f"processes {left[:5]} did not end within {_DEATH_S} s of SIGKILL", path=places[0].path, errno=errno.EBUSY,
                remedy="a process in state D waits for a device or a network filesystem",
            )  # fmt: skip
        time.sleep(next(pauses, 0.001))


def _send(pid: int, signal: int) -> None:
    try:
        os.kill(pid, signal)
    except ProcessLookupError:
        pass

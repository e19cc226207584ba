"""Stops and continues all processes of a container.

On a hybrid host the unified hierarchy's freezer is used: unlike v1's it lets frozen processes be killed and traced.
"""

from __future__ import annotations

import os
import time

from casemate.errors import CgroupError
from casemate.host.cgroup import files
from casemate.host.cgroup.place import Place

_TIMEOUT_S = 2.0
_NUDGE_EVERY = 50  # v1 polls


def can_freeze(places: list[Place]) -> bool:
    return _place(places) is not None


def freeze(places: list[Place], *, calls_may_wait: bool = False) -> None:
    """Freezes and waits until all are frozen. Raises CgroupError: no freezer, or not within 2 s (then all run on).

    calls_may_wait: threads may be in a call that nothing but a kill interrupts (a seccomp notification's): the kernel never counts them as frozen. Then
    it is enough that no thread runs, since each has to pass the freezer before its next instruction.
    """
    place = _place(places)
    if place is None:
        raise CgroupError(
            "no freezer: the container has neither a cgroup v2 nor v1's freezer", controller="freezer",
            remedy="rootless containers need a delegated cgroup",
        )  # fmt: skip
    try:
        is_done = _freeze_v2(place, calls_may_wait) if place.version == 2 else _freeze_v1(place)
    except OSError as error:
        raise files.failure(error, "cannot freeze", controller="freezer", path=place.path) from error
    if not is_done:
        thaw(places)
        raise CgroupError("not all processes froze within 2 s", controller="freezer", path=place.path)


def thaw(places: list[Place]) -> None:
    """Lets all run on; nothing to do without a freezer or if the cgroup is gone. Raises CgroupError."""
    place = _place(places)
    if place is None:
        return
    file, value = ("cgroup.freeze", "0") if place.version == 2 else ("freezer.state", "THAWED")
    try:
        files.write(place.file(file), value)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise files.failure(error, "cannot thaw", controller="freezer", path=place.file(file)) from error


def is_frozen(places: list[Place]) -> bool:
    """Whether the container was told to freeze. False without a freezer."""
    place = _place(places)
    if place is None:
        return False
    if place.version == 2:
        return files.read_or(place.file("cgroup.freeze"), "0") == "1"
    return files.read_or(place.file("freezer.state"), "THAWED") in ("FROZEN", "FREEZING")


def _place(places: list[Place]) -> Place | None:
    for place in reversed(places):  # v2 stands last
        if place.version == 2 or "freezer" in place.controllers:
            return place
    return None


def _freeze_v2(place: Place, calls_may_wait: bool) -> bool:
    import select

    files.write(place.file("cgroup.freeze"), "1")
    with open(place.file("cgroup.events"), "rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events.fileno(), select.POLLPRI)  # kernfs tells a change so; POLLIN is always set
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            events.seek(0)
            if b"frozen 1" in events.read(4096):
                return True
            if calls_may_wait and not _any_runs(place):
                return True
            if time.monotonic() > deadline:
                return False
            # The kernel tells of changes at most each 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV); freezing mostly takes less than one.
            poll.poll(1)


def _any_runs(place: Place) -> bool:
    for pid in files.read(place.file("cgroup.procs")).split():
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/stat", "rb") as stat:
                    if stat.read().rpartition(b")")[2].split()[0] == b"R":
                        return True
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return False


def _freeze_v1(place: Place) -> bool:
    """FREEZING may last: a process in vfork or being ptraced holds the others up, and a short thaw lets it pass (runc fs/freezer.go)."""
    deadline = time.monotonic() + _TIMEOUT_S
    tries = 0
    while time.monotonic() < deadline:
        if tries % _NUDGE_EVERY == _NUDGE_EVERY - 1:
            files.write(place.file("freezer.state"), "THAWED")
            time.sleep(0.001)
        files.write(place.file("freezer.state"), "FROZEN")
        if files.read(place.file("freezer.state")).strip() == "FROZEN":
            return True
        tries += 1
        time.sleep(0.0002 if tries < 10 else 0.002)
    return False

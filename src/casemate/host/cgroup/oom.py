"""Out-of-memory kills: how many there were, and a descriptor that tells of the next."""

from __future__ import annotations

import os
import select

from casemate.errors import CgroupError
from casemate.host.cgroup import files, tree
from casemate.host.cgroup.place import Place
from casemate.host.cgroup.writer import place_of


def kills(places: list[Place]) -> int:
    """How many processes the kernel killed for the container's memory limit; 0 without a memory controller.

    v2 counts descendants itself; v1 (4.13 and later) does not, so the cgroups below are added.
    """
    place = place_of(places, "memory")
    if place is None:
        return 0
    if place.version == 2:
        return files.read_table(place.file("memory.events")).get("oom_kill", 0)
    return sum(files.read_table(f"{directory}/memory.oom_control").get("oom_kill", 0) for directory in tree.walk(place.path))


class OomSource:
    """Tells of OOM events: register `fd` with `events` in a poll, and call `acknowledge` when it fires. Close it.

    The event also fires when the cgroup is removed; `acknowledge` then returns 0.
    """

    def __init__(self, places: list[Place]) -> None:
        place = place_of(places, "memory")
        if place is None:
            raise CgroupError("no memory controller, so no out-of-memory events", controller="memory")
        self._places = places
        self._version = place.version
        self._control = -1
        self._seen = kills(places)
        try:
            self._open(place)
        except OSError as error:
            self.close()
            raise files.failure(error, "cannot watch for OOM", controller="memory", path=place.path) from error

    def _open(self, place: Place) -> None:
        if self._version == 2:
            # kernfs wakes pollers of memory.events as it does inotify's, without a second descriptor.
            self.fd = os.open(place.file("memory.events"), os.O_RDONLY | os.O_CLOEXEC)
            self.events = select.POLLPRI
            os.read(self.fd, 4096)
            return
        self.events = select.POLLIN
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._control = os.open(place.file("memory.oom_control"), os.O_RDONLY | os.O_CLOEXEC)
        files.write(place.file("cgroup.event_control"), f"{self.fd} {self._control}")

    def acknowledge(self) -> int:
        """Takes the event; returns how many kills there were since the last call."""
        try:
            if self._version == 2:
                os.lseek(self.fd, 0, os.SEEK_SET)
            os.read(self.fd, 4096)
        except OSError:
            pass  # ENODEV: the cgroup is gone; EAGAIN: nothing was pending
        now = kills(self._places)
        new, self._seen = max(0, now - self._seen), now
        return new

    def close(self) -> None:
        for fd in (getattr(self, "fd", -1), self._control):
            if fd >= 0:
                os.close(fd)
        self.fd = self._control = -1

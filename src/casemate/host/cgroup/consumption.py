"""What a container used from its start on: two files, where all statistics are thirty."""

from __future__ import annotations

from casemate.host.cgroup import files
from casemate.host.cgroup.place import Place
from casemate.host.cgroup.writer import place_of

_NS_PER_US = 1000


def cpu_ns(places: list[Place]) -> int:
    """Processor time of all its processes; 0 without the controller."""
    v1 = place_of(places, "cpuacct")
    if v1 is not None and v1.version == 1:
        return files.read_integer(v1.file("cpuacct.usage"))
    place = place_of(places, "cpu")
    return files.read_table(place.file("cpu.stat")).get("usage_usec", 0) * _NS_PER_US if place is not None and place.version == 2 else 0


def memory_peak(places: list[Place]) -> int:
    """The most memory that it had at once, cache of files included, in bytes; 0 without the controller, or on v2 before Linux 5.19."""
    place = place_of(places, "memory")
    if place is None:
        return 0
    return files.read_integer(place.file("memory.max_usage_in_bytes" if place.version == 1 else "memory.peak"))

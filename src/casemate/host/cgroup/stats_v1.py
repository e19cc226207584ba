"""Statistics of v1, in the shape of runc's `events --stats`."""

from __future__ import annotations

import os

from casemate.host.cgroup import files
from casemate.host.cgroup.place import Place
from casemate.host.cgroup.writer import place_of

_NS_PER_TICK = 10_000_000  # USER_HZ is 100 on every architecture Linux has today
_BLKIO = {
    "ioServiceBytesRecursive": ("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive",
                                "blkio.throttle.io_service_bytes"),
    "ioServicedRecursive": ("blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive",
                            "blkio.throttle.io_serviced"),
}  # fmt: skip
HUGETLB_V2 = ("hugetlb.{}.current", "hugetlb.{}.max_usage", "hugetlb.{}.events")
_MEMORY_KINDS = {"usage": "memory.", "swap": "memory.memsw.", "kernel": "memory.kmem.", "kernelTCP": "memory.kmem.tcp."}


def collect(places: list[Place]) -> dict[str, object]:
    """cpu, cpuset, memory, pids, blkio, hugetlb. Times in ns, sizes in bytes; a controller that is not there counts 0."""
    return {
        "cpu": _cpu(places),
        "cpuset": {name: _text(places, "cpuset", f"cpuset.{name}") for name in ("cpus", "mems")},
        "memory": _memory(places),
        "pids": _pids(places),
        "blkio": _blkio(places),
        "hugetlb": _hugetlb(places),
    }


def _file(places: list[Place], controller: str, name: str) -> str:
    place = place_of(places, controller)
    return place.file(name) if place is not None and place.version == 1 else ""


def _text(places: list[Place], controller: str, name: str) -> str:
    return files.read_or(_file(places, controller, name), "")


def _number(places: list[Place], controller: str, name: str) -> int:
    return files.to_integer(_text(places, controller, name))


def _cpu(places: list[Place]) -> dict[str, object]:
    ticks = files.read_table(_file(places, "cpuacct", "cpuacct.stat"))
    throttled = files.read_table(_file(places, "cpu", "cpu.stat"))
    per_cpu = [files.to_integer(text) for text in _text(places, "cpuacct", "cpuacct.usage_percpu").split()]
    usage: dict[str, object] = {
        "total": _number(places, "cpuacct", "cpuacct.usage"),
        "percpu": per_cpu,
        "kernel": ticks.get("system", 0) * _NS_PER_TICK,
        "user": ticks.get("user", 0) * _NS_PER_TICK,
    }
    lines = _text(places, "cpuacct", "cpuacct.usage_all").splitlines()[1:]  # the first is `cpu user system`
    rows = [fields for fields in (line.split() for line in lines) if len(fields) == 3]
    if rows:
        usage["percpu_user"] = [files.to_integer(row[1]) for row in rows]
        usage["percpu_kernel"] = [files.to_integer(row[2]) for row in rows]
    throttling = {
        "periods": throttled.get("nr_periods", 0),
        "throttledPeriods": throttled.get("nr_throttled", 0),
        "throttledTime": throttled.get("throttled_time", 0),
    }
    return {"usage": usage, "throttling": throttling}


def _memory(places: list[Place]) -> dict[str, object]:
    raw = files.read_table(_file(places, "memory", "memory.stat"))
    result: dict[str, object] = {"cache": raw.get("cache", 0)}
    for name, prefix in _MEMORY_KINDS.items():
        result[name] = {
            "limit": _number(places, "memory", prefix + "limit_in_bytes"),
            "usage": _number(places, "memory", prefix + "usage_in_bytes"),
            "max": _number(places, "memory", prefix + "max_usage_in_bytes"),
            "failcnt": _number(places, "memory", prefix + "failcnt"),
        }
    result["raw"] = raw
    return result


def _pids(places: list[Place]) -> dict[str, object]:
    limit = _text(places, "pids", "pids.max")
    return {
        "current": _number(places, "pids", "pids.current"),
        "limit": 0 if limit == "max" else files.to_integer(limit),  # runc: 0 is unlimited
    }


def _blkio(places: list[Place]) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, candidates in _BLKIO.items():
        entries: list[dict[str, object]] = []
        for candidate in candidates:
            entries = blkio_entries(_text(places, "blkio", candidate))
            if entries:
                break
        result[name] = entries
    return result


def blkio_entries(text: str) -> list[dict[str, object]]:
    """Lines of `major:minor Operation number`; the line `Total number` is the whole's and is left out."""
    entries: list[dict[str, object]] = []
    for line in text.splitlines():
        fields = line.split()
        major, _, minor = fields[0].partition(":") if fields else ("", "", "")
        if len(fields) == 3 and major.isdecimal() and minor.isdecimal():
            entries.append({"major": int(major), "minor": int(minor), "op": fields[1], "value": files.to_integer(fields[2])})
    return entries


def _hugetlb(places: list[Place]) -> dict[str, object]:
    place = place_of(places, "hugetlb")
    if place is not None and place.version == 2:  # hybrid, with this controller on the unified side
        return hugetlb_sizes(place, *HUGETLB_V2)
    return hugetlb_sizes(place, "hugetlb.{}.usage_in_bytes", "hugetlb.{}.max_usage_in_bytes", "hugetlb.{}.failcnt")


def hugetlb_sizes(place: Place | None, usage: str, maximum: str, failures: str) -> dict[str, object]:
    """page size ("2MB") -> usage, max, failcnt, for each size the directory has files of."""
    result: dict[str, object] = {}
    if place is None:
        return result
    try:
        names = os.listdir(place.path)
    except OSError:
        return result
    suffix = usage.partition("{}")[2]
    for name in names:
        if name.startswith("hugetlb.") and name.endswith(suffix) and ".rsvd." not in name:
            size = name[len("hugetlb.") : -len(suffix)]
            result[size] = {
                "usage": files.read_integer(place.file(name)),
                "max": files.read_integer(place.file(maximum.format(size))),
                # v1: a number; v2: `max NUMBER`
                "failcnt": files.to_integer(files.read_or(place.file(failures.format(size)), "").rpartition(" ")[2]),
            }
    return result

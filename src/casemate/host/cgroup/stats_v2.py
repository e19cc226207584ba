"""Statistics of v2, in the shape of runc's `events --stats`, which is v1's."""

from __future__ import annotations

from casemate.host.cgroup import files
from casemate.host.cgroup.place import Place
from casemate.host.cgroup.stats_v1 import HUGETLB_V2, hugetlb_sizes

_MAX = (1 << 64) - 1
# io.stat's keys and the names under which v1 counted them.
_IO_KEYS = {
    "rbytes": ("ioServiceBytesRecursive", "Read"), "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"), "wios": ("ioServicedRecursive", "Write"),
}  # fmt: skip
_PRESSURE_KEYS = ("avg10", "avg60", "avg300")


def collect(places: list[Place]) -> dict[str, object]:
    """cpu, cpuset, memory, pids, blkio, hugetlb. Times in ns, sizes in bytes; a controller that is not there counts 0."""
    place = next((place for place in places if place.version == 2), None)
    if place is None:
        return {"cpu": {}, "memory": {}, "pids": {}, "blkio": {}, "hugetlb": {}}
    return {
        "cpu": _cpu(place),
        "cpuset": {name: files.read_or(place.file(f"cpuset.{name}"), "") for name in ("cpus", "mems")},
        "memory": _memory(place),
        "pids": _pids(place),
        "blkio": _io(place),
        "hugetlb": hugetlb_sizes(place, *HUGETLB_V2),
    }


def _cpu(place: Place) -> dict[str, object]:
    table = files.read_table(place.file("cpu.stat"))
    return {
        "usage": {
            "total": table.get("usage_usec", 0) * 1000,
            "kernel": table.get("system_usec", 0) * 1000,
            "user": table.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": table.get("nr_periods", 0),
            "throttledPeriods": table.get("nr_throttled", 0),
            "throttledTime": table.get("throttled_usec", 0) * 1000,
        },
        **_pressure(place, "cpu"),
    }


def _memory(place: Place) -> dict[str, object]:
    raw = files.read_table(place.file("memory.stat"))
    usage = _memory_kind(place, "memory")
    swap = _memory_kind(place, "memory.swap")
    # v1's swap is memory and swap together, and so are runc's figures (fs2/memory.go).
    if swap["limit"] != _MAX:
        swap["limit"] = min(_MAX, swap["limit"] + usage["limit"])
    swap["usage"] += usage["usage"]
    swap["max"] = max(swap["max"], usage["max"])
    return {
        "cache": raw.get("file", 0),
        "usage": usage,
        "swap": swap,
        "kernel": {"limit": 0, "usage": raw.get("kernel", 0), "max": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "usage": raw.get("sock", 0), "max": 0, "failcnt": 0},
        "raw": raw,
        **_pressure(place, "memory"),
    }


def _memory_kind(place: Place, prefix: str) -> dict[str, int]:
    return {
        "limit": files.read_integer(place.file(f"{prefix}.max")),
        "usage": files.read_integer(place.file(f"{prefix}.current")),
        "max": files.read_integer(place.file(f"{prefix}.peak")),
        "failcnt": files.read_table(place.file(f"{prefix}.events")).get("max", 0),
    }


def _pids(place: Place) -> dict[str, object]:
    limit = files.read_or(place.file("pids.max"), "max")
    return {
        "current": files.read_integer(place.file("pids.current")),
        "limit": 0 if limit == "max" else files.to_integer(limit),  # runc: 0 is unlimited
    }


def _io(place: Place) -> dict[str, object]:
    """io.stat: lines of `major:minor rbytes=... wbytes=... rios=... wios=...`."""
    result: dict[str, list[dict[str, object]]] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    for line in files.read_or(place.file("io.stat"), "").splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        if not (major.isdecimal() and minor.isdecimal()):
            continue
        for pair in rest.split():
            key, _, value = pair.partition("=")
            if key in _IO_KEYS:
                name, operation = _IO_KEYS[key]
                entry = {"major": int(major), "minor": int(minor), "op": operation, "value": files.to_integer(value)}
                result[name].append(entry)
    return {**result, **_pressure(place, "io")}


def _pressure(place: Place, name: str) -> dict[str, object]:
    """`{name}.pressure` as runc's `psi`: lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. Nothing where PSI is off."""
    result: dict[str, object] = {}
    for line in files.read_or(place.file(f"{name}.pressure"), "").splitlines():
        kind, _, rest = line.partition(" ")
        pairs = dict(pair.split("=", 1) for pair in rest.split() if "=" in pair)
        try:
            averages: dict[str, float | int] = {key: float(pairs[key]) for key in _PRESSURE_KEYS}
            averages["total"] = int(pairs["total"])
        except (KeyError, ValueError):
            continue
        result[kind] = averages
    return {"psi": result} if result else {}

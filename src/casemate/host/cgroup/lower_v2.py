"""`linux.resources` as writes to v2 files (kernel: Documentation/admin-guide/cgroup-v2.rst; runc: cgroups/fs2/*.go).

Fields without a counterpart in v2 are refused, not dropped: whoever asked for the limit would believe in it.
"""

from __future__ import annotations

from casemate.errors import CgroupError
from casemate.host.cgroup.convert import io_weight_of_blkio, limit_text, swap_of_memory_and_swap, weight_of_shares
from casemate.host.cgroup.fields import Section, Write, check_usage, cpuset_writes, hugepage_writes, rdma_writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_IN_V2 = "cgroup v2 has no counterpart of this field"
_IO_MAX_KEYS = {
    "throttleReadBpsDevice": "rbps", "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops", "throttleWriteIOPSDevice": "wiops",
}  # fmt: skip
# What the runtime itself steers by; a specification that wrote them could move or freeze processes of others.
_RESERVED = frozenset("cgroup." + name for name in ("procs", "threads", "kill", "freeze", "type", "subtree_control", "controllers"))
_DEFAULT_PERIOD = 100000


def lower(resources: dict[str, object], read_current: Callable[[str, str], str | None]) -> list[Write]:
    """What to write, in order; devices apart. `read_current(controller, file)` is a file's text, None where it does not exist.

    Raises CgroupError for values the kernel would refuse and for fields that v2 does not have.
    """
    check_usage(resources, "memory.current", read_current)
    Section(resources, "network").refuse(("classID", "priorities"), _NOT_IN_V2)
    return [
        *_memory(Section(resources, "memory"), read_current),
        *_cpu(Section(resources, "cpu"), read_current),
        *_pids(Section(resources, "pids")),
        *_io(Section(resources, "blockIO"), read_current),
        *hugepage_writes(resources, "hugetlb.{}.max", "hugetlb.{}.rsvd.max"),
        *rdma_writes(resources),
        *_unified(resources.get("unified")),
    ]


def _memory(memory: Section, read_current: Callable[[str, str], str | None]) -> list[Write]:
    memory.refuse(("kernel", "kernelTCP", "swappiness", "disableOOMKiller"), _NOT_IN_V2)
    limit, swap = memory.set_integer("limit"), memory.set_integer("swap")
    writes = []
    if swap > 0 and limit == 0:  # an update of swap alone: the limit is what is set now
        current = read_current("memory", "memory.max") or ""
        limit_now = int(current) if current.isdecimal() else 0
        swap_max = swap_of_memory_and_swap(swap, limit_now)
    else:
        swap_max = swap_of_memory_and_swap(swap, limit)
    if swap_max:
        # Without swap accounting there is no swap to limit: none and all are then the same.
        optional = swap_max in ("0", "max")
        writes.append(Write("memory", "memory.swap.max", swap_max, memory.field("swap"), optional))
    if limit:
        writes.append(Write("memory", "memory.max", limit_text(limit), memory.field("limit")))
    if reservation := memory.set_integer("reservation"):
        writes.append(Write("memory", "memory.low", limit_text(reservation), memory.field("reservation")))
    return writes


def _cpu(cpu: Section, read_current: Callable[[str, str], str | None]) -> list[Write]:
    cpu.refuse(("realtimeRuntime", "realtimePeriod"), _NOT_IN_V2)
    writes = []
    idle = cpu.integer("idle")
    if idle is not None:
        writes.append(Write("cpu", "cpu.idle", str(idle), cpu.field("idle")))
    shares = cpu.set_integer("shares")
    if shares and not idle:  # the idle class has a weight of its own, and refuses another
        writes.append(Write("cpu", "cpu.weight", str(weight_of_shares(shares)), cpu.field("shares")))
    quota, period = cpu.set_integer("quota"), cpu.set_integer("period")
    if quota or period:
        writes.append(Write("cpu", "cpu.max", _cpu_max(quota, period, read_current), cpu.field("quota")))
    burst = cpu.integer("burst")
    if burst is not None:
        writes.append(Write("cpu", "cpu.max.burst", str(burst), cpu.field("burst")))
    return writes + cpuset_writes(cpu)


def _cpu_max(quota: int, period: int, read_current: Callable[[str, str], str | None]) -> str:
    """`QUOTA PERIOD`; what is not given stays as it is now."""
    now = (read_current("cpu", "cpu.max") or f"max {_DEFAULT_PERIOD}").split()
    quota_text = limit_text(quota) if quota else now[0]
    return f"{quota_text} {period or now[-1]}"


def _pids(pids: Section) -> list[Write]:
    limit = pids.set_integer("limit")
    return [Write("pids", "pids.max", limit_text(limit), pids.field("limit"))] if limit else []


def _io(block: Section, read_current: Callable[[str, str], str | None]) -> list[Write]:
    block.refuse(("leafWeight",), _NOT_IN_V2)
    writes = []
    weight, devices = block.set_integer("weight"), block.devices("weightDevice", "weight")
    if weight or devices:
        # BFQ's file takes v1's range; io.weight (iocost) needs the conversion.
        has_bfq = read_current("io", "io.bfq.weight") is not None
        file = "io.bfq.weight" if has_bfq else "io.weight"
        if weight:
            value = str(weight) if has_bfq else f"default {io_weight_of_blkio(weight)}"
            writes.append(Write("io", file, value, block.field("weight")))
        for device, number, field in devices:
            converted = number if has_bfq else io_weight_of_blkio(number)
            writes.append(Write("io", file, f"{device} {converted}", field))
    for name, key in _IO_MAX_KEYS.items():
        writes += [Write("io", "io.max", f"{device} {key}={rate or 'max'}", field) for device, rate, field in block.devices(name, "rate")]
    return writes


def _unified(values: object) -> list[Write]:
    """`unified`: file names and values as they are, one write a line (io.max takes one device at a time)."""
    if values is None:
        return []
    if not isinstance(values, dict):
        raise CgroupError("expected an object", field="linux.resources.unified")
    writes = []
    for name, text in values.items():
        field = f"linux.resources.unified.{name}"
        if "/" in name or "." not in name or "\0" in name or name.startswith("."):
            raise CgroupError(f"{name!r} is not a cgroup file's name such as memory.high", field=field)
        if name in _RESERVED:
            raise CgroupError(f"{name} is the runtime's to write", field=field)
        if not isinstance(text, str):
            raise CgroupError("expected a string", field=field)
        controller = name.split(".", 1)[0]
        writes += [Write("" if controller == "cgroup" else controller, name, line, field) for line in text.splitlines()]
    return writes

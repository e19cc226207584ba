"""`linux.resources` as writes to v1 files (kernel: Documentation/admin-guide/cgroup-v1; runc: cgroups/fs/*.go).

Order matters to the kernel only where two values bound each other (memory and memory+swap, quota and period). The writer tries a write
that is refused with EINVAL once more after the others of its controller, so one order serves raising and lowering.
"""

from __future__ import annotations

from casemate.errors import CgroupError
from casemate.host.cgroup.fields import Section, Write, check_usage, cpuset_writes, hugepage_writes, rdma_writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MIN_SHARES, _MAX_SHARES = 2, 262144  # kernel/sched/sched.h MIN_SHARES, MAX_SHARES: others are silently clamped
_THROTTLE_FILES = {
    "throttleReadBpsDevice": "blkio.throttle.read_bps_device",
    "throttleWriteBpsDevice": "blkio.throttle.write_bps_device",
    "throttleReadIOPSDevice": "blkio.throttle.read_iops_device",
    "throttleWriteIOPSDevice": "blkio.throttle.write_iops_device",
}


def lower(resources: dict[str, object], read_current: Callable[[str, str], str | None]) -> list[Write]:
    """What to write, in order; devices apart. `read_current(controller, file)` is a file's text, None where it does not exist.

    Raises CgroupError for values the kernel would refuse or silently change.
    """
    if resources.get("unified"):
        raise CgroupError("unified is for hosts with cgroup v2 only; this host has v1 controllers", field="linux.resources.unified")
    check_usage(resources, "memory.usage_in_bytes", read_current)
    return [
        *_memory(Section(resources, "memory")),
        *_cpu(Section(resources, "cpu")),
        *_pids(Section(resources, "pids")),
        *_blkio(Section(resources, "blockIO"), read_current),
        *hugepage_writes(resources, "hugetlb.{}.limit_in_bytes", "hugetlb.{}.rsvd.limit_in_bytes"),
        *_network(Section(resources, "network")),
        *rdma_writes(resources),
    ]


def _memory(memory: Section) -> list[Write]:
    limit, swap = memory.set_integer("limit"), memory.set_integer("swap")
    writes = []
    if limit == -1 and swap == 0:
        # memory+swap below "unlimited" would refuse the memory limit; absent where swap is not accounted.
        writes.append(Write("memory", "memory.memsw.limit_in_bytes", "-1", memory.field("limit"), optional=True))
    if limit:
        writes.append(Write("memory", "memory.limit_in_bytes", str(limit), memory.field("limit")))
    if swap:
        if 0 < swap < limit:
            raise CgroupError(
                f"{swap} is memory and swap together and must not be below the limit {limit}",
                controller="memory", field=memory.field("swap"),
            )  # fmt: skip
        writes.append(Write("memory", "memory.memsw.limit_in_bytes", str(swap), memory.field("swap"), swap == -1))
    for name, file, optional in (
        ("reservation", "memory.soft_limit_in_bytes", False),
        ("kernel", "memory.kmem.limit_in_bytes", True),  # deprecated since 5.16: writes have no effect or are refused
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes", False),
    ):
        if value := memory.set_integer(name):
            writes.append(Write("memory", file, str(value), memory.field(name), optional))
    swappiness = memory.integer("swappiness")
    if swappiness is not None and swappiness != -1:
        if not 0 <= swappiness <= 100:
            raise CgroupError(f"expected 0 to 100, got {swappiness}", field=memory.field("swappiness"))
        writes.append(Write("memory", "memory.swappiness", str(swappiness), memory.field("swappiness")))
    if memory.is_true("disableOOMKiller"):
        writes.append(Write("memory", "memory.oom_control", "1", memory.field("disableOOMKiller")))
    if memory.is_true("useHierarchy"):
        writes.append(Write("memory", "memory.use_hierarchy", "1", memory.field("useHierarchy"), True))
    return writes


def _cpu(cpu: Section) -> list[Write]:
    writes = []
    if shares := cpu.set_integer("shares"):
        if not _MIN_SHARES <= shares <= _MAX_SHARES:
            raise CgroupError(f"expected {_MIN_SHARES} to {_MAX_SHARES}, got {shares}", controller="cpu", field=cpu.field("shares"))
        writes.append(Write("cpu", "cpu.shares", str(shares), cpu.field("shares")))
    for name, file in (
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
        ("period", "cpu.cfs_period_us"),
        ("quota", "cpu.cfs_quota_us"),
    ):
        if value := cpu.set_integer(name):
            writes.append(Write("cpu", file, str(value), cpu.field(name)))
    for name, file in (("burst", "cpu.cfs_burst_us"), ("idle", "cpu.idle")):
        number = cpu.integer(name)
        if number is not None:
            writes.append(Write("cpu", file, str(number), cpu.field(name)))
    return writes + cpuset_writes(cpu)


def _pids(pids: Section) -> list[Write]:
    limit = pids.set_integer("limit")
    if not limit:
        return []
    return [Write("pids", "pids.max", str(limit) if limit > 0 else "max", pids.field("limit"))]


def _blkio(block: Section, read_current: Callable[[str, str], str | None]) -> list[Write]:
    """Weights go to whichever proportional scheduler the kernel has: BFQ today, CFQ's names before 5.0."""
    writes = []
    has_cfq = read_current("blkio", "blkio.weight") is not None
    weight_file = "blkio.weight" if has_cfq else "blkio.bfq.weight"
    if weight := block.set_integer("weight"):
        writes.append(Write("blkio", weight_file, str(weight), block.field("weight")))
    if leaf := block.set_integer("leafWeight"):
        writes.append(Write("blkio", "blkio.leaf_weight", str(leaf), block.field("leafWeight")))
    for device, value, field in block.devices("weightDevice", "weight"):
        writes.append(Write("blkio", weight_file + "_device", f"{device} {value}", field))
    for device, value, field in block.devices("weightDevice", "leafWeight"):
        writes.append(Write("blkio", "blkio.leaf_weight_device", f"{device} {value}", field))
    for name, file in _THROTTLE_FILES.items():
        writes += [Write("blkio", file, f"{device} {value}", field) for device, value, field in block.devices(name, "rate")]
    return writes


def _network(network: Section) -> list[Write]:
    writes = []
    if class_id := network.set_integer("classID"):
        writes.append(Write("net_cls", "net_cls.classid", str(class_id), network.field("classID")))
    for index, entry in enumerate(network.objects("priorities")):
        field = f"{network.field('priorities')}[{index}]"
        name, priority = entry.get("name"), entry.get("priority")
        if not isinstance(name, str) or not name or any(c.isspace() for c in name) or not isinstance(priority, int):
            raise CgroupError("expected an interface's name and a priority", controller="net_prio", field=field)
        writes.append(Write("net_prio", "net_prio.ifpriomap", f"{name} {priority}", field))
    return writes

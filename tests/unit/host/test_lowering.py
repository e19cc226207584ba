"""`linux.resources` as writes: what is written for v1 and v2, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import CgroupError
from casemate.host.cgroup import convert, lower_v1, lower_v2

DEVICE = {"major": 8, "minor": 16}


def v1(resources: dict[str, object], **current: str) -> list[tuple[str, str]]:
    return [(w.file, w.value) for w in lower_v1.lower(resources, lambda _, file: current.get(file.replace(".", "_")))]


def v2(resources: dict[str, object], **current: str) -> list[tuple[str, str]]:
    return [(w.file, w.value) for w in lower_v2.lower(resources, lambda _, file: current.get(file.replace(".", "_")))]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 100, "swap": 300}}, [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "300")]),
        ({"memory": {"limit": -1}}, [("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")]),
        ({"memory": {"reservation": 5, "swappiness": 0}}, [("memory.soft_limit_in_bytes", "5"), ("memory.swappiness", "0")]),
        ({"memory": {"kernelTCP": 7, "disableOOMKiller": True}}, [("memory.kmem.tcp.limit_in_bytes", "7"), ("memory.oom_control", "1")]),
        ({"cpu": {"shares": 1024, "quota": 5, "period": 10}}, [("cpu.shares", "1024"), ("cpu.cfs_period_us", "10"), ("cpu.cfs_quota_us", "5")]),
        ({"cpu": {"cpus": "0-1", "mems": "0", "idle": 1}}, [("cpu.idle", "1"), ("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
        ({"cpu": {"realtimeRuntime": 9, "realtimePeriod": 90}}, [("cpu.rt_period_us", "90"), ("cpu.rt_runtime_us", "9")]),
        ({"pids": {"limit": 3}}, [("pids.max", "3")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"pids": {"limit": 0}}, []),
        ({"blockIO": {"weight": 500}}, [("blkio.bfq.weight", "500")]),
        ({"blockIO": {"weightDevice": [{**DEVICE, "weight": 20}]}}, [("blkio.bfq.weight_device", "8:16 20")]),
        ({"blockIO": {"throttleReadBpsDevice": [{**DEVICE, "rate": 9}]}}, [("blkio.throttle.read_bps_device", "8:16 9")]),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}, [("hugetlb.2MB.limit_in_bytes", "4"), ("hugetlb.2MB.rsvd.limit_in_bytes", "4")]),
        ({"network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 2}]}}, [("net_cls.classid", "7"), ("net_prio.ifpriomap", "eth0 2")]),
        ({"rdma": {"mlx5": {"hcaHandles": 3}}}, [("rdma.max", "mlx5 hca_handle=3")]),
    ],
)  # fmt: skip
def test_v1_writes(resources: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert v1(resources) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 100, "swap": 300}}, [("memory.swap.max", "200"), ("memory.max", "100")]),
        ({"memory": {"limit": 100, "swap": 100}}, [("memory.swap.max", "0"), ("memory.max", "100")]),
        ({"memory": {"limit": 100, "swap": -1}}, [("memory.swap.max", "max"), ("memory.max", "100")]),
        ({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"memory": {"reservation": 5}}, [("memory.low", "5")]),
        ({"cpu": {"shares": 1024}}, [("cpu.weight", "100")]),
        ({"cpu": {"shares": 1024, "idle": 1}}, [("cpu.idle", "1")]),
        ({"cpu": {"quota": 50}}, [("cpu.max", "50 100000")]),
        ({"cpu": {"quota": -1, "period": 2000}}, [("cpu.max", "max 2000")]),
        ({"cpu": {"burst": 10, "cpus": "1"}}, [("cpu.max.burst", "10"), ("cpuset.cpus", "1")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"blockIO": {"weight": 10}}, [("io.weight", "default 1")]),
        ({"blockIO": {"throttleWriteIOPSDevice": [{**DEVICE, "rate": 9}]}}, [("io.max", "8:16 wiops=9")]),
        ({"hugepageLimits": [{"pageSize": "1GB", "limit": 4}]}, [("hugetlb.1GB.max", "4"), ("hugetlb.1GB.rsvd.max", "4")]),
        ({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2"}}, [("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]),
    ],
)  # fmt: skip
def test_v2_writes(resources: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert v2(resources) == expected


def test_v2_update_of_the_period_keeps_the_quota() -> None:
    assert v2({"cpu": {"period": 2000}}, cpu_max="500 100000") == [("cpu.max", "500 2000")]


def test_v2_update_of_swap_alone_counts_from_the_limit_now() -> None:
    assert v2({"memory": {"swap": 300}}, memory_max="100") == [("memory.swap.max", "200")]


def test_v2_weight_for_bfq_is_not_converted() -> None:
    assert v2({"blockIO": {"weight": 300}}, io_bfq_weight="default 100") == [("io.bfq.weight", "300")]


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"memory": {"limit": 300, "swap": 100}}, "memory.swap"),
        ({"memory": {"limit": "1G"}}, "memory.limit"),
        ({"memory": {"limit": True}}, "memory.limit"),
        ({"cpu": {"cpus": "0\n1"}}, "cpu.cpus"),
        ({"cpu": {"mems": "../x"}}, "cpu.mems"),
        ({"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}, "hugepageLimits[0].pageSize"),
        ({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}, "hugepageLimits[0].pageSize"),
        ({"rdma": {"a b": {}}}, "rdma.a b"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 1, "rate": 2}]}}, "blockIO.throttleReadBpsDevice[0].minor"),
        ({"memory": []}, "memory"),
    ],
)  # fmt: skip
def test_both_refuse(resources: dict[str, object], field: str) -> None:
    for lower in (v1, v2):
        with pytest.raises(CgroupError) as caught:
            lower(resources)
        assert caught.value.field == f"linux.resources.{field}"


@pytest.mark.parametrize(
    "resources",
    [{"cpu": {"shares": 1}}, {"cpu": {"shares": 262145}}, {"memory": {"swappiness": 101}}, {"unified": {"memory.high": "1"}},
     {"network": {"priorities": [{"name": "a b", "priority": 1}]}}],
)  # fmt: skip
def test_v1_refuses(resources: dict[str, object]) -> None:
    with pytest.raises(CgroupError):
        v1(resources)


@pytest.mark.parametrize(
    "resources",
    [{"memory": {"kernel": 1}}, {"memory": {"swappiness": 60}}, {"memory": {"disableOOMKiller": True}}, {"memory": {"swap": 5}},
     {"cpu": {"realtimeRuntime": 1}}, {"network": {"classID": 1}}, {"blockIO": {"leafWeight": 10}},
     {"unified": {"../x": "1"}}, {"unified": {"cgroup.procs": "1"}}, {"unified": {"cgroup.subtree_control": "-memory"}},
     {"unified": {"memory": "1"}}, {"unified": {"memory.high": 1}}],
)  # fmt: skip
def test_v2_refuses(resources: dict[str, object]) -> None:
    with pytest.raises(CgroupError):
        v2(resources)


def test_check_before_update_refuses_a_limit_below_usage() -> None:
    resources: dict[str, object] = {"memory": {"limit": 100, "checkBeforeUpdate": True}}
    with pytest.raises(CgroupError, match="present usage 101"):
        v1(resources, memory_usage_in_bytes="101")
    with pytest.raises(CgroupError, match="present usage 101"):
        v2(resources, memory_current="101")
    assert v2(resources, memory_current="99") == [("memory.max", "100")]


@pytest.mark.parametrize(("shares", "weight"), [(0, 1), (2, 1), (1024, 100), (262144, 10000), (1 << 60, 10000)])
def test_weight_of_shares_fixed_points(shares: int, weight: int) -> None:
    assert convert.weight_of_shares(shares) == weight


@given(st.integers(2, 262144), st.integers(2, 262144))
def test_weight_of_shares_keeps_order_and_range(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert 1 <= convert.weight_of_shares(low) <= convert.weight_of_shares(high) <= 10000


@given(st.integers(1, 1 << 62), st.integers(0, 1 << 62))
def test_swap_is_the_difference(memory: int, swap: int) -> None:
    assert convert.swap_of_memory_and_swap(memory + swap, memory) == ("0" if not swap else str(swap))


@given(st.integers(10, 1000))
def test_io_weight_is_in_range(weight: int) -> None:
    assert 1 <= convert.io_weight_of_blkio(weight) <= 10000

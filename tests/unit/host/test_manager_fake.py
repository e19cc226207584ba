"""The manager on fake trees: what it makes, hands down, leaves out and refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trees import Host

from casemate.errors import CgroupError
from casemate.host.cgroup import Manager

SOURCE = str(Path(__file__).parents[3] / "src")


def leaf(host: Host, **contents: str) -> Path:
    """The container's v2 directory with the files a kernel would have put there."""
    directory = host.unified / "casemate" / "box"
    directory.mkdir(parents=True)
    for name, text in {"cgroup_procs": "", "cgroup_controllers": "cpu memory", **contents}.items():
        (directory / name.replace("_", ".")).write_text(text)
    return directory


def test_v2_parents_hand_down_their_controllers(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    leaf(host)
    (host.unified / "casemate" / "cgroup.subtree_control").write_text("cpu memory\n")
    host.open(None).create()
    assert (host.unified / "cgroup.subtree_control").read_text() == "+cpuset +cpu +io +memory +pids"
    assert (host.unified / "casemate" / "cgroup.subtree_control").read_text().startswith("+cpuset +io +pids")


def test_hybrid_leaves_the_unified_controllers_alone_until_needed(tmp_path: Path) -> None:
    host = Host(tmp_path, "hybrid")
    manager = host.open(None)
    manager.create()
    assert (host.unified / "cgroup.subtree_control").read_text() == ""
    directory = host.unified / "casemate" / "box"
    for name in ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
        (directory / name).write_text("")
    manager.update({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]})
    assert (host.unified / "cgroup.subtree_control").read_text() == "+hugetlb"
    assert (directory / "hugetlb.2MB.max").read_text() == "4096"


def test_v1_cpuset_takes_over_the_parents_processors(tmp_path: Path) -> None:
    host = Host(tmp_path, "v1")
    for directory in (host.root / "cpuset/casemate", host.root / "cpuset/casemate/box"):
        directory.mkdir()
        (directory / "cpuset.cpus").write_text("")
        (directory / "cpuset.mems").write_text("")
    (host.root / "cpuset/casemate/cpuset.cpus").write_text("1\n")
    (host.root / "cpuset/casemate/cpuset.mems").write_text("0\n")
    host.open(None).create()
    assert (host.root / "cpuset/casemate/box/cpuset.cpus").read_text() == "1\n"


def test_cgroup_in_use_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    host = Host(tmp_path, "hybrid")
    leaf(host, cgroup_procs="77\n")
    manager = host.open(None)
    with pytest.raises(CgroupError, match="not empty: 1 processes"):
        manager.create()
    assert not (host.root / "memory/casemate/box").exists()
    assert manager.pids() == []


def test_manager_that_did_not_create_kills_nobody(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    directory = leaf(host, cgroup_procs="1\n", cgroup_kill="")
    manager = Manager.from_state(host.open(None).to_state())
    manager.kill_all(9)
    manager.destroy()
    assert (directory / "cgroup.kill").read_text() == ""


def test_frozen_cgroup_is_refused(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    leaf(host, cgroup_freeze="1\n")
    with pytest.raises(CgroupError, match="is frozen"):
        host.open(None).create()


def test_parent_with_processes_is_refused(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    leaf(host, cgroup_type="domain invalid\n")
    with pytest.raises(CgroupError, match="has processes of its own"):
        host.open(None).create()


def test_missing_controller_is_named_with_its_field(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    leaf(host)
    manager = host.open(None)
    manager.create()
    with pytest.raises(CgroupError, match="pids controller is not available") as caught:
        manager.update({"pids": {"limit": 5}})
    assert (caught.value.controller, caught.value.field) == ("pids", "linux.resources.pids.limit")


def test_missing_v1_hierarchy_is_named_with_its_field(tmp_path: Path) -> None:
    manager = Host(tmp_path, "v1").open(None)
    manager.create()
    with pytest.raises(CgroupError, match="no hugetlb controller"):
        manager.update({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})


def test_no_resources_need_no_controller(tmp_path: Path) -> None:
    manager = Host(tmp_path, "none").open(None, rootless=True)
    manager.create()
    manager.apply({})
    manager.join(1)
    assert (manager.paths(), manager.pids(), manager.frozen(), manager.oom_kills()) == ({}, [], False, 0)
    assert manager.consumption() == (0, 0)
    manager.destroy()


def test_v2_statistics(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    leaf(
        host,
        cpu_stat="usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 5\n",
        memory_current="1000\n", memory_max="max\n", memory_swap_max="0\n", memory_swap_current="24\n",
        memory_stat="anon 7\nfile 8\n", memory_events="low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        memory_peak="4096\n", pids_current="2\n", pids_max="max\n", io_stat="8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
        cpu_pressure="some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n",
    )  # fmt: skip
    manager = host.open(None)
    manager.create()
    stats = manager.stats()
    cpu, memory = stats["cpu"], stats["memory"]
    assert isinstance(cpu, dict)
    assert isinstance(memory, dict)
    assert cpu["usage"] == {"total": 30000, "kernel": 10000, "user": 20000}
    assert cpu["throttling"] == {"periods": 4, "throttledPeriods": 2, "throttledTime": 5000}
    assert cpu["psi"] == {"some": {"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 9}}
    assert memory["usage"] == {"limit": 2**64 - 1, "usage": 1000, "max": 4096, "failcnt": 3}
    assert memory["swap"]["usage"] == 1024
    assert stats["pids"] == {"current": 2, "limit": 0}
    blkio = stats["blkio"]
    assert isinstance(blkio, dict)
    assert blkio["ioServicedRecursive"][1] == {"major": 8, "minor": 0, "op": "Write", "value": 4}
    assert manager.oom_kills() == 1
    assert manager.consumption() == (30000, 4096)


def test_import_is_lean() -> None:
    code = f"import sys; sys.path.append({SOURCE!r}); import casemate.host.cgroup, casemate.host.process, casemate.host.probe; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    heavy = {"json", "re", "enum", "typing", "dataclasses", "subprocess", "socket", "pathlib", "ctypes", "collections", "functools", "contextlib"}
    assert heavy.isdisjoint(done.stdout.split())


def refuse(path: str, value: str) -> None:
    if path.endswith("cgroup.procs"):
        raise PermissionError(13, "Permission denied")


def test_rootless_process_stays_outside_where_it_may_not_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, "v2")
    directory = leaf(host)
    (directory / "memory.max").write_text("")
    monkeypatch.setattr("casemate.host.cgroup.files.write", refuse)
    manager = host.open(None, rootless=True)
    manager.create()
    manager.join(1)
    manager.update({"memory": {"limit": 5}})
    with pytest.raises(CgroupError, match="cannot put process 1 into it"):
        manager.join(1)

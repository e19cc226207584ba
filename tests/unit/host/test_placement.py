"""Where a container's cgroup lies on hosts of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import Host

from casemate.errors import CgroupError
from casemate.host.cgroup import Manager, placement


def test_v1_lists_every_controller_of_a_shared_hierarchy(tmp_path: Path) -> None:
    host = Host(tmp_path, "v1")
    paths = host.open("/a/b").paths()
    assert paths["cpu"] == paths["cpuacct"] == f"{host.root}/cpu,cpuacct/a/b"
    assert paths["name=systemd"] == f"{host.root}/systemd/a/b"
    assert "" not in paths


def test_v2_has_one_unified_path(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    manager = host.open(None)
    assert (manager.mode, manager.paths()) == ("v2", {"": f"{host.root}/casemate/box"})


def test_hybrid_has_both(tmp_path: Path) -> None:
    manager = Host(tmp_path, "hybrid").open("/c")
    assert manager.mode == "hybrid"
    assert {"", "memory", "pids"} <= set(manager.paths())


def test_relative_path_lies_below_the_callers_own_cgroup(tmp_path: Path) -> None:
    host = Host(tmp_path, "v1", own="/user/me")
    assert host.open("box").paths()["pids"] == f"{host.root}/pids/user/me/box"


def test_relative_path_on_v2_lies_beside_the_callers_own_cgroup(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2", own="/user/me")
    assert host.open("box").paths()[""] == f"{host.root}/user/box"


def test_relative_path_where_the_mount_shows_a_part(tmp_path: Path) -> None:
    host = Host(tmp_path, "v1", own="/docker/x/me", shown="/docker/x")
    assert host.open("box").paths()["pids"] == f"{host.root}/pids/me/box"


def test_relative_path_outside_of_what_the_mount_shows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CgroupError, match="outside of what"):
        Host(tmp_path, "v1", own="/elsewhere", shown="/docker/x").open("box")


@pytest.mark.parametrize("path", ["../x", "/a/../../b", "/..", "a/.."])
def test_parent_components_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(CgroupError, match=r"'\.\.'"):
        Host(tmp_path, "v1").open(path)


@pytest.mark.parametrize("path", ["/", "//", "/.", "a\nb", "/a\0b", "/" + "x" * 256])
def test_paths_that_name_no_cgroup_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(CgroupError) as caught:
        Host(tmp_path, "v1").open(path)
    assert caught.value.field == "linux.cgroupsPath"


def test_no_cgroup_mounted_is_an_error_unless_rootless(tmp_path: Path) -> None:
    host = Host(tmp_path, "none")
    assert host.open(None, rootless=True).mode == "none"
    with pytest.raises(CgroupError, match="no cgroup filesystem"):
        host.open(None)


def test_state_round_trip(tmp_path: Path) -> None:
    manager = Host(tmp_path, "hybrid").open("/c")
    assert Manager.from_state(manager.to_state()).to_state() == manager.to_state()


@pytest.mark.parametrize("path", ["/etc", "/sys/fs/cgroup", "/sys/fs/cgroup/../../x"])
def test_state_with_a_path_outside_of_its_mount_is_refused(path: str) -> None:
    state: dict[str, object] = {"mode": "v2", "places": [[2, [], "/sys/fs/cgroup", path]]}
    with pytest.raises(CgroupError):
        Manager.from_state(state)


def test_mounts_name_the_links_of_shared_hierarchies(tmp_path: Path) -> None:
    host = Host(tmp_path, "hybrid")
    first, *_, last = host.open("/c").mounts(has_cgroup_namespace=True)
    assert first["links"] == ["cpu", "cpuacct"]
    assert (first["kind"], first["name"], first["options"]) == ("v1", "cpu,cpuacct", "cpu,cpuacct")
    assert (last["kind"], last["name"], last["host_path"]) == ("v2", "unified", f"{host.unified}/c")


@pytest.mark.parametrize(
    ("path", "unit"),
    [("machine.slice:libpod:abc", ("machine.slice", "libpod-abc.scope")), (":p:n", ("system.slice", "p-n.scope"))],
)
def test_systemd_path(path: str, unit: tuple[str, str]) -> None:
    assert placement.systemd_unit(path, "id", rootless=False) == unit


@pytest.mark.parametrize("path", ["/a/b", "a:b", "a:b:", "a.slice:b:c/../d", "a b.slice:c:d"])
def test_systemd_path_malformed(path: str) -> None:
    with pytest.raises(CgroupError):
        placement.systemd_unit(path, "id", rootless=False)


def test_slice_directory_expands() -> None:
    assert placement.slice_directory("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"


@pytest.mark.parametrize("name", ["a--b.slice", "a", "-a.slice"])
def test_slice_directory_malformed(name: str) -> None:
    with pytest.raises(CgroupError):
        placement.slice_directory(name)


def test_systemd_that_does_not_run_is_said(tmp_path: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    with pytest.raises(CgroupError, match="does not run on this host"):
        Host(tmp_path, "v1").open("a.slice:b:c", systemd=True)

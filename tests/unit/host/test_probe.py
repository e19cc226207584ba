"""What the probe says of hosts that lack something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate import jsonlite
from casemate.host import probe


def fake(base: Path, **contents: str) -> str:
    """A root directory with files; `__` in a name stands for `/`."""
    for name, text in contents.items():
        path = base / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(base)


def test_this_host_is_json() -> None:
    facts = probe.probe()
    assert jsonlite.loads(jsonlite.dumps(facts)) == facts
    assert facts["euid"] == os.geteuid()


@pytest.mark.parametrize(("release", "version"), [("6.18.44-fc-v769", (6, 18, 44)), ("5.15.0+", (5, 15, 0)), ("6.1", (6, 1, 0)), ("x", (0, 0, 0))])
def test_kernel_version(release: str, version: tuple[int, int, int]) -> None:
    assert probe.kernel_version(release) == version


def with_user_namespaces(base: Path, **contents: str) -> str:
    return fake(base, proc__self__ns__user="", proc__sys__user__max_user_namespaces="100\n", **contents)


def test_user_namespaces_forbidden_by_sysctl(tmp_path: Path) -> None:
    root = with_user_namespaces(tmp_path, proc__sys__kernel__unprivileged_userns_clone="0\n")
    assert probe.user_namespaces(root)["reason"] == "sysctl kernel.unprivileged_userns_clone is 0"


def test_user_namespaces_forbidden_by_apparmor(tmp_path: Path) -> None:
    root = with_user_namespaces(tmp_path, proc__sys__kernel__apparmor_restrict_unprivileged_userns="1\n")
    facts = probe.user_namespaces(root)
    assert (facts["usable"], facts["apparmor_restricted"]) == (False, True)


def test_user_namespaces_of_a_privileged_user_need_no_permission(tmp_path: Path) -> None:
    root = with_user_namespaces(tmp_path, proc__sys__kernel__unprivileged_userns_clone="0", proc__self__status="CapEff:\t000001ffffffffff\n")
    assert probe.user_namespaces(root)["usable"] is True


def test_user_namespaces_used_up(tmp_path: Path) -> None:
    root = fake(tmp_path, proc__self__ns__user="", proc__sys__user__max_user_namespaces="0")
    assert probe.user_namespaces(root)["usable"] is False


def test_initial_user_namespace(tmp_path: Path) -> None:
    assert probe.in_initial_user_namespace(fake(tmp_path / "a", proc__self__uid_map="         0          0 4294967295\n"))
    assert not probe.in_initial_user_namespace(fake(tmp_path / "b", proc__self__uid_map="0 100000 65536\n"))


def test_subordinate_ids_pass_over_malformed_lines(tmp_path: Path) -> None:
    uid = os.getuid()
    text = f"other:1:2\n{uid}:100000:65536\n{uid}:x:1\n{uid}:5\n\n{uid}:300000:10\n"
    assert probe.subordinate_ids("subuid", fake(tmp_path, etc__subuid=text)) == [[100000, 65536], [300000, 10]]


def test_filesystems(tmp_path: Path) -> None:
    known = probe.filesystems(fake(tmp_path, proc__filesystems="nodev\toverlay\n\terofs\n"))
    assert (known["overlay"], known["erofs"], known["fuse"]) == (True, True, False)


def test_kvm_that_is_no_device(tmp_path: Path) -> None:
    missing = probe.kvm(str(tmp_path / "nothing"))
    assert missing["usable"] is False
    wrong = probe.kvm(fake(tmp_path, dev__kvm=""))
    assert "is not KVM" in str(wrong["reason"])


@pytest.mark.parametrize(("flags", "has"), [("fpu vme vmx", True), ("fpu svm", True), ("fpu vmxnet", False), ("", False)])
def test_virtualisation_is_a_flag_of_the_processor(tmp_path: Path, flags: str, has: bool) -> None:
    assert probe.has_virtualisation(fake(tmp_path, proc__cpuinfo=f"processor\t: 0\nflags\t\t: {flags}\n")) is has


def test_empty_host_has_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert probe.namespaces(root) == []
    assert probe.seccomp_actions(root) == []
    assert probe.effective_capabilities(root) == 0

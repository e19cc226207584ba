"""What `casemate surface` counts of a running sandbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bundle import CASEMATE
from casemate.report.names import NAMES
from casemate.report.surface import from_profile

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the filter is read as root")
DANGEROUS = "mount umount2 bpf unshare setns ptrace io_uring_setup userfaultfd keyctl perf_event_open kexec_load init_module open_by_handle_at pivot_root"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run([CASEMATE, "surface", "--json"], capture_output=True, text=True, timeout=60, check=True)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@needs_root
def test_counted_from_the_installed_filter(report: dict[str, Any]) -> None:
    assert report["source"] == "filter"


@needs_root
def test_under_300_calls_are_reachable(report: dict[str, Any]) -> None:
    assert 200 < len(report["reachable"]) < 300


@needs_root
def test_calls_that_escapes_used_are_refused(report: dict[str, Any]) -> None:
    assert set(DANGEROUS.split()) <= set(report["refused"])


@needs_root
def test_calls_with_conditions(report: dict[str, Any]) -> None:
    assert set(report["conditional"]) >= {"clone", "personality", "socket"}


@needs_root
def test_other_conventions_reach_nothing(report: dict[str, Any]) -> None:
    assert all(report["conventions"].values())


@needs_root
def test_a_program_inside_gets_what_the_filter_says(report: dict[str, Any]) -> None:
    assert report["probe"]["disagree"] == {}


@needs_root
def test_filter_is_the_profiles(report: dict[str, Any]) -> None:
    from casemate.policy.seccomp import hardened_profile

    assert from_profile(hardened_profile()).reachable == [name for name in report["reachable"] if name != "clone3"]


@needs_root
def test_list_names_the_calls(report: dict[str, Any]) -> None:
    done = subprocess.run([CASEMATE, "surface", "--list", "--probe=false"], capture_output=True, text=True, timeout=60, check=True)
    listed = done.stdout.split("Reachable (", 1)[1].split("Refused", 1)[0]
    assert listed.split()[1:] == report["reachable"]


@needs_root
def test_process_without_a_filter() -> None:
    done = subprocess.run([CASEMATE, "surface", "--json", "--pid", str(os.getpid())], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["counts"] == {"reachable": len(NAMES), "conditional": 0, "refused": 0}


@pytest.mark.skipif(not HEADER.exists(), reason="no header")
def test_names_are_the_headers() -> None:
    header = {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    assert {number: NAMES[number] for number in header if number in NAMES} == {number: name for number, name in header.items() if number <= max(NAMES)}


def test_profile_with_rules_for_capabilities() -> None:
    profile: dict[str, object] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read", "socket"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}]},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["s390_runtime_instr"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
        ],
    }
    assert from_profile(profile, frozenset(["CAP_SYS_CHROOT"])).reachable == ["read", "socket", "chroot"]

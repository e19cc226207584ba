"""What `casemate doctor` says of this host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bundle import CASEMATE
from casemate.hypervisor import registry as hypervisors
from casemate.isolation import registry
from casemate.report import trials

ROWS = [
    "kernel", "cgroups", "namespace user", "namespace mnt", "namespace pid", "namespace net", "namespace ipc", "namespace uts", "namespace cgroup",
    "namespace time", "unprivileged user namespaces", "newuidmap, newgidmap", "subuid, subgid", "seccomp", "seccomp notify", "landlock", "overlay",
    "overlay in a user namespace", "idmapped mounts", "openat2", "pidfd", "io_uring", "AppArmor", "SELinux", "/dev/kvm", "engine", "Python",
    "state directory",
]  # fmt: skip


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CASEMATE, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def report(state_root: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(doctor("--root", str(state_root), "doctor", "--json").stdout)
    return value


def test_a_row_for_all_that_matters_and_for_each_isolation(report: dict[str, Any]) -> None:
    assert [row["name"] for row in report["rows"]] == [
        *ROWS,
        *(f"isolation {name}" for name in registry.NAMES),
        *(f"hypervisor {name}" for name in hypervisors.NAMES),
    ]


def test_what_is_not_ok_says_why_and_what_to_do(report: dict[str, Any]) -> None:
    assert [row["name"] for row in report["rows"] if row["status"] != "ok" and not (row["why"] and row["remedy"])] == []


def test_default_isolation_was_tried(report: dict[str, Any]) -> None:
    (row,) = [row for row in report["rows"] if row["name"] == f"isolation {report['default']}"]
    assert "a sandbox ran /bin/true" in row["why"]


def test_table_and_exit_code(state_root: Path) -> None:
    done = doctor("--root", str(state_root), "doctor")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Sandboxes can run here (isolation namespaces).")


def test_state_directory_that_cannot_be_made() -> None:
    done = doctor("--root", "/proc/casemate", "doctor", "--json")
    rows = {row["name"]: row["status"] for row in json.loads(done.stdout)["rows"]}
    assert (done.returncode, rows["state directory"]) == (1, "missing")


def test_nothing_is_left(state_root: Path) -> None:
    doctor("--root", str(state_root), "doctor")
    assert [path.name for path in state_root.iterdir() if not path.name.startswith((".next", ".collected"))] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_trial_says_why_it_failed() -> None:
    assert trials.idmapped_mount("/proc") == "Invalid argument"

"""What each process of a machine may do on the host, as the kernel says of it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from bundle import CASEMATE, Bundle, leftovers
from casemate.hypervisor import user
from casemate.hypervisor.user import _FIRST, own_user
from microvm.processes import DRAWN, LENT, check, status, tree

HYPERVISORS = ("uml", "qemu")


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
def test_without_a_user_namespace_only_the_server_of_files_has_capabilities(hypervisor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's root is the host's: its files need somebody who may act for it, and the guest's kernel is not that."""
    monkeypatch.setenv("CASEMATE_HYPERVISOR", hypervisor)
    bundle = Bundle(tmp_path, "casemate")
    bundle.config["annotations"] = {"dev.casemate.isolation": "microvm"}
    bundle.config["process"]["capabilities"] = {kind: ["CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID"] for kind in ("bounding", "effective", "permitted")}
    bundle.create("sh", "-c", "echo hers > /tmp/made; chown 33:34 /tmp/made; chmod 4750 /tmp/made; echo done > /tmp/done; sleep 60")
    bundle.verb("start", bundle.id, check=True)
    deadline = time.monotonic() + 20
    while not (bundle.rootfs / "tmp/done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    relay = int(bundle.state_document()["pid"])
    seen = check(relay, DRAWN, 0)
    assert any(name.endswith("virtiofsd") for name in seen)
    assert len(seen) >= 3
    made = (bundle.rootfs / "tmp/made").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (33, 34, 0o4750)
    bundle.close()
    assert leftovers(bundle.id, tmp_path) == []


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
def test_with_a_user_namespace_nobody_of_the_host_is_in_the_machine(hypervisor: str, tmp_path: Path) -> None:
    words = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", "--hypervisor", hypervisor, "--", "sh", "-c", "echo ready; cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin
        assert running.stdout
        assert running.stdout.readline() == "ready\n"
        relay = next(pid for pid in tree(running.pid) if int(status(pid)["Uid"].split()[0]) in LENT)
        root = int(status(relay)["Uid"].split()[0]) // 65536 * 65536
        check(relay, range(root + 65535, root + 65536), root)
        running.stdin.close()
    assert running.returncode == 0


def test_each_machine_draws_a_user_of_its_own() -> None:
    drawn = [tuple(own_user(None)) for _ in range(100)]
    assert len(set(drawn)) == 100
    assert all(user in DRAWN and group in DRAWN for user, group in drawn)
    maps = {"uid": [[0, 100_000, 1000], [5000, 300_000, 2]], "gid": [[0, 200_000, 7]]}
    assert own_user(maps) == [5001, 6]


def test_in_a_user_namespace_that_has_not_these_ids_it_is_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("         0     100000      65536\n")
    assert user._mapped(_FIRST, str(tmp_path / "map")) == 65535
    assert user._mapped(12, str(tmp_path / "map")) == 12

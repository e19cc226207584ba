"""What each process of a machine may do on the host, as the kernel says of it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from bundle import CASEMATE, Bundle, leftovers
from casemate.host import process
from casemate.hypervisor import user
from casemate.hypervisor.user import _COUNT, _FIRST, own_user

HYPERVISORS = ("uml", "qemu")
# Of the server of files, for the ids of the container: each with its reason in isolation/microvm.py.
FILE_SERVER = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 27 | 1 << 31
LENT = range(0x7000_0000, 0x7F00_0000)
DRAWN = range(_FIRST, _FIRST + _COUNT)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")


def tree(pid: int) -> list[int]:
    """A process and those that it or they have started; those that ended meanwhile are left out."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return [each for each in found if process.state(each) not in ("", "Z", "X")]


def check(relay: int, users: range, root: int) -> set[str]:
    """Each process of the machine is confined. What was seen."""
    seen, others = set(), set()
    for pid in tree(relay):
        name, facts = command(pid), status(pid)
        uid, capabilities = {int(word) for word in facts["Uid"].split()}, int(facts["CapEff"], 16)
        assert (facts["NoNewPrivs"], facts["Seccomp"], facts["CapAmb"].strip("0")) == ("1", "2", ""), name
        seen.add(name)
        if name.endswith("virtiofsd"):
            assert uid == {root}
            assert capabilities == int(facts["CapPrm"], 16) == FILE_SERVER & capabilities
            continue
        assert (capabilities, int(facts["CapPrm"], 16), int(facts["CapBnd"], 16)) == (0, 0, 0), name
        others |= uid
    assert len(others) == 1
    assert others.pop() in users
    assert Path(f"/proc/{relay}/environ").stat().st_uid == 0, "the relay can be traced by the hypervisor's user"
    return seen


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

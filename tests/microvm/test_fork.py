"""Forks: children go on from their parent's state on shared memory, each a process with an identity of its own, all of them or none."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microvm.monitor import Monitor, UnixConnection, wait_for
from microvm.test_snapshot import ask, begin, create, load, pause, resume, start
from microvm.test_vmm import connect, drive

__all__ = ["start"]
Start = Callable[..., Monitor]


class Child:
    """A child by its answer of the API; `end` kills it by its descriptor, so that no other process can be meant."""

    def __init__(self, answer: dict[str, Any], serial: Path | None = None) -> None:
        self.pid = int(answer["pid"])
        self.handle = os.pidfd_open(self.pid)
        self.socket = Path(answer["api_sock"])
        self.serial = serial

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        monitor = Monitor.__new__(Monitor)
        monitor.connection = UnixConnection(self.socket)
        try:
            return monitor.request(method, path, body)
        finally:
            monitor.connection.close()

    def report(self) -> list[str]:
        """What its guest printed when it saw that it is a copy: id, right pages before and after it wrote, whether it was told."""
        serial = self.serial
        assert serial
        wait_for(lambda: serial.exists() and serial.read_bytes().endswith(b"\n"))
        return serial.read_text().splitlines()[0].split()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)

    def end(self) -> None:
        self.kill()
        # Ended, if not reaped yet: an orphan's reaper takes its time.
        assert select.select([self.handle], [], [], 20)[0]
        os.close(self.handle)


Fork = Callable[..., list[Child]]


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[Fork]:
    children: list[Child] = []

    def begin_fork(monitor: Monitor, count: int, **more: object) -> list[Child]:
        child = {"api_sock": str(tmp_path / "child{}"), "serial_out_path": str(tmp_path / "serial{}"), **more}
        answer = monitor.ok("PUT", "/casemate/fork", {"count": count, "child": child})
        new = [Child(made, tmp_path / f"serial{number}") for number, made in enumerate(answer["children"])]
        children.extend(new)
        return new

    yield begin_fork
    for child in children:
        child.kill()
    for child in children:
        child.end()


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def test_children_go_on_with_identities_of_their_own(start: Start, guest: Path, fork: Fork) -> None:
    parent = start("--id", "parent")
    begin(parent, guest, mib=16, test="state-fork")
    generation = ask(parent, "g")
    children = fork(parent, 3, id="worker-{}")
    # The parent goes on at once, and what it writes now is not the children's.
    assert ask(parent, "n") == "written"
    reports = [child.report() for child in children]
    assert all(report[1:] == ["4096", "1024", "told"] for report in reports)
    assert len({generation, *(report[0] for report in reports)}) == 4
    assert ask(parent, "q") == "1024"
    assert ask(parent, "g") == generation
    assert ask(parent, "i") == "not told"
    for number, child in enumerate(children):
        status, answer = child.request("GET", "/")
        assert (status, answer["id"], answer["state"]) == (200, f"worker-{number}", "Running")


def test_memory_is_shared_until_it_is_written(start: Start, guest: Path, fork: Fork) -> None:
    parent = start()
    begin(parent, guest, mib=32, memory_mib=128)
    children = fork(parent, 4)
    for child in children:
        assert child.request("GET", "/")[0] == 200
        assert private_kib(child.pid) < 4 * 1024


def test_a_fork_of_a_loaded_machine_and_of_a_child(start: Start, guest: Path, fork: Fork, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, test="state-fork")
    pause(original)
    original.ok("PUT", "/snapshot/create", create(tmp_path / "snapshot"))
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(tmp_path / "snapshot"))
    copy.read_until("told\n")
    child = fork(copy, 1)[0]
    # The copy has written every fourth page before, the child writes them again.
    assert child.report()[1:] == ["256", "256", "told"]
    pattern = {"api_sock": str(tmp_path / "grandchild{}"), "serial_out_path": str(tmp_path / "grandserial{}")}
    status, answer = child.request("PUT", "/casemate/fork", {"count": 2, "child": pattern})
    assert status == 200, answer
    grandchildren = [Child(made, tmp_path / f"grandserial{number}") for number, made in enumerate(answer["children"])]
    assert [grandchild.report()[1:] for grandchild in grandchildren] == [["256", "256", "told"]] * 2
    for grandchild in grandchildren:
        grandchild.end()


def test_a_snapshot_of_a_child(start: Start, guest: Path, fork: Fork, tmp_path: Path) -> None:
    parent = start()
    begin(parent, guest, test="state-fork")
    child = fork(parent, 1)[0]
    child.report()
    assert child.request("PATCH", "/vm", {"state": "Paused"})[0] == 204
    assert child.request("PUT", "/snapshot/create", create(tmp_path / "snapshot"))[0] == 204
    copy = start()
    # Its serial port is the child's file, as the child's configuration says.
    copy.ok("PUT", "/snapshot/load", load(tmp_path / "snapshot"))
    wait_for(lambda: (tmp_path / "serial0").read_text().count("\n") == 2)
    assert (tmp_path / "serial0").read_text().splitlines()[1].split()[1:] == ["256", "256", "told"]


def test_a_paused_parent_stays_paused_and_children_can_wait(start: Start, guest: Path, fork: Fork) -> None:
    parent = start()
    begin(parent, guest, test="state-fork")
    pause(parent)
    child = fork(parent, 1, resume_vm=False)[0]
    assert parent.ok("GET", "/")["state"] == "Paused"
    assert child.request("GET", "/")[1]["state"] == "Paused"
    assert child.request("PATCH", "/vm", {"state": "Resumed"})[0] == 204
    assert child.report()[1:] == ["1024", "256", "told"]
    resume(parent)
    assert ask(parent, "c") == "1024"


def test_children_outlive_their_parent(start: Start, guest: Path, fork: Fork) -> None:
    parent = start()
    begin(parent, guest, test="state-fork")
    children = fork(parent, 2)
    parent.process.kill()
    parent.process.wait(timeout=10)
    for child in children:
        assert child.report()[1:] == ["1024", "256", "told"]
        assert child.request("GET", "/")[0] == 200


def test_an_ended_child_leaves_nothing(start: Start, guest: Path, fork: Fork) -> None:
    parent = start()
    begin(parent, guest)
    child = fork(parent, 1)[0]
    signal.pidfd_send_signal(child.handle, signal.SIGKILL)
    # Nobody has to wait for it.
    wait_for(lambda: not Path(f"/proc/{child.pid}").exists())
    # Its socket is taken over.
    assert fork(parent, 1)[0].request("GET", "/")[0] == 200


def test_each_child_has_its_own_disk_and_socket(start: Start, guest: Path, fork: Fork, tmp_path: Path) -> None:
    for name in ("disk", "disk0", "disk1"):
        (tmp_path / name).write_bytes(name.encode().ljust(16, b".") + bytes(4080))
    parent = start()
    parent.ok("PUT", "/drives/data", drive(tmp_path / "disk"))
    parent.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    parent.boot(guest, "test=vsock-echo", 64)
    parent.read_until("ready\n")
    whole = {
        "drive_overrides": [{"drive_id": "data", "path_on_host": str(tmp_path / "disk{}")}],
        "vsock_override": {"uds_path": str(tmp_path / "vsock{}"), "guest_cid": 3},
    }
    for missing in whole:
        child = {"api_sock": str(tmp_path / "child{}"), **{name: value for name, value in whole.items() if name != missing}}
        assert missing in parent.fault("PUT", "/casemate/fork", {"count": 2, "child": child})
    children = fork(parent, 2, **whole)
    for number in range(2):
        stream, line = connect(tmp_path / f"vsock{number}", 52)
        assert line.startswith(b"OK ")
        stream.sendall(b"to child %d" % number)
        assert stream.recv(10) == b"to child %d" % number
        stream.close()
    config = children[1].request("GET", "/vm/config")[1]
    assert config["drives"][0]["path_on_host"] == str(tmp_path / "disk1")
    stream, _ = connect(tmp_path / "vsock", 52)
    stream.close()


def descriptors(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return sorted(os.readlink(entry) for entry in folder.iterdir() if int(entry.name) > 2)


def test_a_child_has_no_descriptor_of_its_parents(start: Start, guest: Path, fork: Fork, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    (tmp_path / "own").write_bytes(bytes(4096))
    parent = start()
    parent.ok("PUT", "/drives/data", drive(tmp_path / "disk"))
    begin(parent, guest)
    child = fork(parent, 1, drive_overrides=[{"drive_id": "data", "path_on_host": str(tmp_path / "own")}])[0]
    own = descriptors(child.pid)
    assert str(tmp_path / "disk") not in own
    assert str(tmp_path / "own") in own
    assert own.count("anon_inode:kvm-vm") == 1
    assert own.count("anon_inode:kvm-vcpu:0") == 1
    # The parent's machine is not kept by a mapping either.
    assert Path(f"/proc/{child.pid}/maps").read_text().count("anon_inode:kvm-vcpu") == 1


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ({}, "Either `count`"),
        ({"count": 1}, "Either `count`"),
        ({"count": 0, "child": {"api_sock": "x"}}, "1 to 512"),
        ({"count": 513, "child": {"api_sock": "x{}"}}, "1 to 512"),
        ({"children": []}, "1 to 512"),
        ({"count": 2, "child": {"api_sock": "x"}}, "Two children"),
        ({"count": 1, "child": {"api_sock": "x", "id": "a/b"}}, "not valid"),
        ({"count": 1, "child": {"api_sock": "x", "color": 1}}, "unknown field"),
        ({"count": 1, "child": {"api_sock": "/no/such/folder/x"}}, "No such file"),
        ({"count": 1, "child": {"api_sock": "x", "drive_overrides": [{"drive_id": "no", "path_on_host": "y"}]}}, "Unknown drive"),
    ],
)
def test_refused_orders(start: Start, guest: Path, order: object, text: str) -> None:
    parent = start()
    assert "not supported before starting" in parent.fault("PUT", "/casemate/fork", order)
    begin(parent, guest, mib=1)
    assert text in parent.fault("PUT", "/casemate/fork", order)
    assert ask(parent, "c") == "256"


def test_all_children_or_none(start: Start, guest: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "child2"))
        taken.listen()
        parent = start()
        begin(parent, guest, mib=1)
        order = {"count": 4, "child": {"api_sock": str(tmp_path / "child{}")}}
        assert "in use" in parent.fault("PUT", "/casemate/fork", order)
        children = Path(f"/proc/{parent.process.pid}/task/{parent.process.pid}/children")
        wait_for(lambda: children.read_text() == "")
        wait_for(lambda: [path.name for path in tmp_path.glob("child*")] == ["child2"])
        assert ask(parent, "c") == "256"


def test_fifty(start: Start, guest: Path, fork: Fork) -> None:
    parent = start()
    begin(parent, guest, mib=1, memory_mib=128, test="state-fork")
    children = fork(parent, 50)
    assert len({child.report()[0] for child in children}) == 50
    assert sum(private_kib(child.pid) for child in children) < 50 * 2 * 1024

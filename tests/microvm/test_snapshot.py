"""Snapshots: what a guest has is there again, copies have identities of their own, and what is broken is refused."""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microvm.monitor import Monitor, engine
from microvm.test_vmm import connect, drive, memory_kib

PAGE = 4096
MIB = 1 << 20


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    """Monitors with a folder each, since several live at once."""
    monitors: list[Monitor] = []

    def begin(*options: str) -> Monitor:
        folder = tmp_path / f"monitor{len(monitors)}"
        folder.mkdir()
        monitors.append(Monitor(folder, *options))
        return monitors[-1]

    yield begin
    for monitor in monitors:
        monitor.close()


Start = Callable[..., Monitor]


def ask(monitor: Monitor, question: str) -> str:
    monitor.type(question)
    return monitor.read_until("\n").strip()


def pause(monitor: Monitor) -> None:
    monitor.ok("PATCH", "/vm", {"state": "Paused"})


def resume(monitor: Monitor) -> None:
    monitor.ok("PATCH", "/vm", {"state": "Resumed"})


def snapshot(monitor: Monitor, folder: Path, name: str = "snapshot", kind: str = "Full") -> Path:
    """Pauses, writes NAME.state and NAME.memory, resumes; the path without its suffix."""
    path = folder / name
    pause(monitor)
    monitor.ok("PUT", "/snapshot/create", create(path, kind))
    resume(monitor)
    return path


def create(path: Path, kind: str = "Full") -> dict[str, object]:
    return {"snapshot_type": kind, "snapshot_path": f"{path}.state", "mem_file_path": f"{path}.memory"}


def load(path: Path, **more: object) -> dict[str, object]:
    backend = {"backend_type": "File", "backend_path": f"{path}.memory"}
    return {"snapshot_path": f"{path}.state", "mem_backend": backend, "resume_vm": True, **more}


def begin(monitor: Monitor, guest: Path, mib: int = 4, memory_mib: int = 64, test: str = "state", **machine: object) -> None:
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": f"test={test} mib={mib}"})
    monitor.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": memory_mib, **machine})
    monitor.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    monitor.read_until("ready\n")


def data_size(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_copy_goes_on_where_the_original_stood(start: Start, guest: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"first sector 123" + bytes(4080))
    original = start()
    original.ok("PUT", "/drives/data", drive(tmp_path / "disk"))
    begin(original, guest)
    assert ask(original, "d") == "first sector 123"
    generation = ask(original, "g")
    assert ask(original, "i") == "not told"
    path = snapshot(original, tmp_path)
    # Only what the guest has touched takes room.
    assert data_size(path.with_suffix(".memory")) < 6 * MIB < path.with_suffix(".memory").stat().st_size
    copies = [start(), start()]
    for copy in copies:
        copy.ok("PUT", "/snapshot/load", load(path, clock_realtime=copy is copies[1]))
        assert copy.ok("GET", "/")["state"] == "Running"
    for monitor in (original, *copies):
        assert ask(monitor, "c") == "1024"
        assert ask(monitor, "d") == "first sector 123"
        assert ask(monitor, "t") == "later"
    assert ask(original, "g") == generation
    assert ask(original, "i") == "not told"
    assert len({generation, *(ask(copy, "g") for copy in copies)}) == 3
    assert [ask(copy, "i") for copy in copies] == ["told", "told"]
    assert copies[0].ok("GET", "/vm/config")["machine-config"]["mem_size_mib"] == 64


def test_what_a_copy_writes_stays_its_own(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, mib=16)
    path = snapshot(original, tmp_path)
    before = path.with_suffix(".memory").read_bytes()
    first, second = start(), start()
    for copy in (first, second):
        copy.ok("PUT", "/snapshot/load", load(path))
    # Pages come in when they are touched.
    assert memory_kib(first.process.pid) < 8 * 1024
    assert ask(first, "n") == "written"
    assert ask(first, "q") == "1024"
    assert ask(second, "c") == "4096"
    assert ask(original, "c") == "4096"
    assert path.with_suffix(".memory").read_bytes() == before


def test_a_copy_of_a_copy(start: Start, guest: Path, tmp_path: Path) -> None:
    monitor = start()
    begin(monitor, guest)
    for round_number in range(3):
        path = snapshot(monitor, tmp_path, f"round{round_number}")
        monitor = start()
        monitor.ok("PUT", "/snapshot/load", load(path))
        assert ask(monitor, "c") == ("1024" if round_number == 0 else "256")
        assert ask(monitor, "n") == "written"
        assert ask(monitor, "q") == "256"


def test_two_processors_and_memory_above_4_gib(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, memory_mib=4096, vcpu_count=2)
    path = snapshot(original, tmp_path)
    assert data_size(path.with_suffix(".memory")) < 6 * MIB
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(path))
    assert ask(copy, "c") == "1024"


def test_loading_without_resume_waits(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest)
    path = snapshot(original, tmp_path)
    copy = start()
    copy.ok("PUT", "/snapshot/load", {"snapshot_path": f"{path}.state", "mem_file_path": f"{path}.memory"})
    assert copy.ok("GET", "/")["state"] == "Paused"
    copy.ok("PUT", "/snapshot/create", create(tmp_path / "again"))
    resume(copy)
    assert ask(copy, "c") == "1024"


def merge(base: Path, diff: Path, target: Path) -> None:
    """What the diff has, over the base: what every tool for Firecracker's snapshots does."""
    shutil.copy(base, target)
    with diff.open("rb") as source, target.open("r+b") as sink:
        end = source.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                at = source.seek(at, os.SEEK_DATA)
            except OSError:
                return
            hole = source.seek(at, os.SEEK_HOLE)
            source.seek(at)
            sink.seek(at)
            sink.write(source.read(hole - at))
            at = hole


def check_diffs(start: Start, monitor: Monitor, base: Path, folder: Path) -> int:
    """Two diffs over a base, one on the other; how large the second one is."""
    for name in ("first", "second"):
        assert ask(monitor, "n") == "written"
        diff = snapshot(monitor, folder, name, "Diff")
        merge(base.with_suffix(".memory"), diff.with_suffix(".memory"), folder / f"merged-{name}.memory")
        shutil.copy(f"{diff}.state", folder / f"merged-{name}.state")
        base = folder / f"merged-{name}"
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(base))
    assert ask(copy, "q") == ask(monitor, "q") == "1024"
    return data_size(folder / "second.memory")


def test_diffs_of_a_tracked_machine_hold_what_changed_since_the_last(start: Start, guest: Path, tmp_path: Path) -> None:
    monitor = start()
    begin(monitor, guest, mib=16, track_dirty_pages=True)
    base = snapshot(monitor, tmp_path)
    assert ask(monitor, "n") == "written"
    assert ask(monitor, "n") == "written"
    # Every fourth page of 16 MiB, and a few more.
    assert 4 * MIB <= check_diffs(start, monitor, base, tmp_path) < 5 * MIB
    idle = snapshot(monitor, tmp_path, "idle", "Diff")
    assert data_size(idle.with_suffix(".memory")) < MIB // 2


def test_diffs_of_an_untracked_copy_hold_what_it_wrote(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, mib=16)
    base = snapshot(original, tmp_path)
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(base))
    # Reading is no writing.
    assert ask(copy, "c") == "4096"
    assert 4 * MIB <= check_diffs(start, copy, base, tmp_path) < 5 * MIB


def test_a_tracked_copy(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, mib=16)
    base = snapshot(original, tmp_path)
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(base, track_dirty_pages=True))
    assert 4 * MIB <= check_diffs(start, copy, base, tmp_path) < 5 * MIB
    snapshot(copy, tmp_path, "full")
    idle = snapshot(copy, tmp_path, "idle", "Diff")
    assert data_size(idle.with_suffix(".memory")) < MIB // 2


class Handler(threading.Thread):
    """A handler of page faults as Firecracker's users write it: one connection, then the file's pages where they are asked for."""

    # Linux include/uapi/linux/userfaultfd.h.
    COPY = 0xC028AA03
    PAGE_FAULT, REMOVE = 0x12, 0x15

    def __init__(self, path: Path, memory: Path) -> None:
        super().__init__(daemon=True)
        self.memory = memory
        self.served = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

    def run(self) -> None:
        peer, _ = self.listener.accept()
        with peer, self.listener:
            text, fds, _, _ = socket.recv_fds(peer, 65536, 1)
        regions = json.loads(text)
        os.set_blocking(fds[0], True)
        with self.memory.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as content:
            source = ctypes.addressof(ctypes.c_char.from_buffer(content))
            while message := os.read(fds[0], 32):
                kind, _, address = struct.unpack_from("<B7xQQ", message)
                if kind != self.PAGE_FAULT:
                    continue
                page = address & ~(PAGE - 1)
                region = next(r for r in regions if 0 <= page - r["base_host_virt_addr"] < r["size"])
                offset = page - region["base_host_virt_addr"] + region["offset"]
                request = array.array("Q", [page, source + offset, PAGE, 0, 0])
                # Before the page is there: the guest goes on at once, and may have told all before this thread runs again.
                self.served += 1
                try:
                    fcntl.ioctl(fds[0], self.COPY, request)
                except FileExistsError:
                    self.served -= 1
                except OSError:
                    return


def test_pages_served_by_another_process(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest)
    path = snapshot(original, tmp_path)
    handler = Handler(tmp_path / "handler", path.with_suffix(".memory"))
    copy = start()
    backend = {"backend_type": "Uffd", "backend_path": str(tmp_path / "handler")}
    copy.ok("PUT", "/snapshot/load", {"snapshot_path": f"{path}.state", "mem_backend": backend, "resume_vm": True})
    assert ask(copy, "o") == "ok"
    assert 0 < handler.served < 512
    assert ask(copy, "c") == "1024"
    assert handler.served >= 1024
    # A full snapshot asks the handler for all that the guest has not.
    again = snapshot(copy, tmp_path, "again")
    third = start()
    third.ok("PUT", "/snapshot/load", load(again))
    assert ask(third, "c") == "1024"


def test_no_handler_is_an_answer(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest)
    path = snapshot(original, tmp_path)
    copy = start()
    backend = {"backend_type": "Uffd", "backend_path": str(tmp_path / "nobody")}
    assert "No such file" in copy.fault("PUT", "/snapshot/load", {"snapshot_path": f"{path}.state", "mem_backend": backend})
    copy.ok("PUT", "/snapshot/load", load(path))
    assert ask(copy, "c") == "1024"


def test_overrides(start: Start, guest: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"first sector 123" + bytes(4080))
    (tmp_path / "other").write_bytes(b"another disk 456" + bytes(4080))
    original = start()
    original.ok("PUT", "/drives/data", drive(tmp_path / "disk"))
    original.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    begin(original, guest)
    path = snapshot(original, tmp_path)
    copy = start()
    # The original has its socket still.
    assert "vsock" in copy.fault("PUT", "/snapshot/load", load(path))
    vsock = {"uds_path": str(tmp_path / "vsock-copy"), "guest_cid": 7}
    change = {"drive_id": "data", "path_on_host": str(tmp_path / "other")}
    assert "Unknown drive" in copy.fault("PUT", "/snapshot/load", load(path, vsock_override=vsock, drive_overrides=[change | {"drive_id": "x"}]))
    networks = [{"iface_id": "eth0", "host_dev_name": "tap0"}]
    assert "Unknown network" in copy.fault("PUT", "/snapshot/load", load(path, vsock_override=vsock, network_overrides=networks))
    copy.ok("PUT", "/snapshot/load", load(path, vsock_override=vsock, drive_overrides=[change]))
    config = copy.ok("GET", "/vm/config")
    assert config["vsock"] == vsock
    assert config["drives"][0]["path_on_host"] == str(tmp_path / "other")
    assert ask(original, "d") == "first sector 123"
    assert ask(copy, "d") == "another disk 456"


def test_sockets_work_in_a_copy(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    original.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    original.boot(guest, "test=vsock-echo", 64)
    original.read_until("ready\n")
    stream, _ = connect(tmp_path / "vsock", 52)
    stream.sendall(b"before")
    assert stream.recv(6) == b"before"
    path = snapshot(original, tmp_path)
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(path, vsock_override={"uds_path": str(tmp_path / "copy")}))
    # The original's streams go on; the copy has none of them, and takes new ones.
    stream.sendall(b"after")
    assert stream.recv(5) == b"after"
    stream.close()
    other, line = connect(tmp_path / "copy", 52)
    assert line.startswith(b"OK ")
    other.sendall(b"copy")
    assert other.recv(4) == b"copy"
    other.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state[: len(state) // 2], "cut off"),
        (lambda state: state[:10], "cut off"),
        (lambda state: b"", "cut off"),
        (lambda state: state + b"x", "bytes behind its end"),
        (lambda state: b"\x7fELF" + state[4:], "no snapshot of this monitor"),
        (lambda state: state[:8] + b"\x07" + state[9:], "version 7"),
        (lambda state: state[:100] + bytes([state[100] ^ 1]) + state[101:], "checksum"),
        (lambda state: state[:12] + b"\xff" * 8 + state[20:], "at most"),
    ],
)
def test_broken_state_files_are_refused(start: Start, guest: Path, tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    original = start()
    begin(original, guest, mib=1, memory_mib=32)
    path = snapshot(original, tmp_path)
    shutil.copy(f"{path}.memory", tmp_path / "broken.memory")
    (tmp_path / "broken.state").write_bytes(change(Path(f"{path}.state").read_bytes()))
    copy = start()
    assert reason in copy.fault("PUT", "/snapshot/load", load(tmp_path / "broken"))
    # And the monitor is as before.
    copy.ok("PUT", "/snapshot/load", load(path))
    assert ask(copy, "c") == "256"


def test_a_state_file_s_version_is_told(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, mib=1)
    pause(original)
    original.ok("PUT", "/snapshot/create", create(tmp_path / "snapshot"))
    own = [str(engine()), "vmm", "--snapshot-version"]
    assert subprocess.run(own, capture_output=True, check=True, timeout=20).stdout == b"v1.0.0\n"
    state = tmp_path / "snapshot.state"
    other = bytearray(state.read_bytes())
    other[8:12] = (7).to_bytes(4, "little")
    (tmp_path / "other").write_bytes(other)
    (tmp_path / "none").write_bytes(b"#!/bin/sh\necho\n")
    told = [subprocess.run([*own[:2], "--describe-snapshot", str(path)], capture_output=True, check=False, timeout=20) for path in (state, tmp_path / "other")]
    assert [each.stdout for each in told] == [b"v1.0.0\n", b"v7.0.0\n"]
    refused = subprocess.run([*own[:2], "--describe-snapshot", str(tmp_path / "none")], capture_output=True, check=False, timeout=20)
    assert refused.returncode == 2
    assert b"starts with other bytes" in refused.stderr


def test_memory_files_that_do_not_fit_are_refused(start: Start, guest: Path, tmp_path: Path) -> None:
    original = start()
    begin(original, guest, mib=1, memory_mib=32)
    path = snapshot(original, tmp_path)
    copy = start()
    os.truncate(f"{path}.memory", 31 * MIB)
    assert "32505856 bytes; the machine's memory has 33554432" in copy.fault("PUT", "/snapshot/load", load(path))
    os.mkfifo(tmp_path / "fifo.memory")
    shutil.copy(f"{path}.state", tmp_path / "fifo.state")
    assert "not a regular file" in copy.fault("PUT", "/snapshot/load", load(tmp_path / "fifo"))
    os.mkfifo(tmp_path / "other.state")
    assert "not a regular file" in copy.fault("PUT", "/snapshot/load", load(tmp_path / "other"))


def test_states_in_which_it_is_not_possible(start: Start, guest: Path, tmp_path: Path) -> None:
    monitor = start()
    path = tmp_path / "snapshot"
    assert "not supported before starting" in monitor.fault("PUT", "/snapshot/create", create(path))
    assert "is required" in monitor.fault("PUT", "/snapshot/load", {"snapshot_path": "x"})
    both = load(path, mem_file_path="x")
    assert "exclusively" in monitor.fault("PUT", "/snapshot/load", both)
    begin(monitor, guest, mib=1, memory_mib=32)
    assert "unavailable while running" in monitor.fault("PUT", "/snapshot/create", create(path))
    assert "not supported after starting" in monitor.fault("PUT", "/snapshot/load", load(path))
    pause(monitor)
    assert "the same path" in monitor.fault("PUT", "/snapshot/create", {"snapshot_path": "x", "mem_file_path": "x"})
    assert "No such file" in monitor.fault("PUT", "/snapshot/create", create(Path("/no/such/folder/x")))
    monitor.ok("PUT", "/snapshot/create", create(path))
    second = start()
    second.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
    assert "after configuring boot-specific resources" in second.fault("PUT", "/snapshot/load", load(path))


def test_a_full_disk_leaves_the_earlier_snapshot(start: Start, guest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=True)
    try:
        monitor = start()
        begin(monitor, guest, mib=2, memory_mib=32)
        path = snapshot(monitor, folder)
        before = Path(f"{path}.state").read_bytes()
        (folder / "fill").write_bytes(bytes(3 * MIB))
        pause(monitor)
        assert "No space left" in monitor.fault("PUT", "/snapshot/create", create(path))
        assert Path(f"{path}.state").read_bytes() == before
        assert sorted(file.name for file in folder.iterdir()) == ["fill", "snapshot.memory", "snapshot.state"]
        copy = start()
        copy.ok("PUT", "/snapshot/load", load(path))
        assert ask(copy, "c") == "512"
        copy.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_snapshots_are_readable_by_their_owner_only(start: Start, guest: Path, tmp_path: Path) -> None:
    monitor = start()
    begin(monitor, guest, mib=1, memory_mib=32)
    path = snapshot(monitor, tmp_path)
    modes: list[Any] = [Path(f"{path}{suffix}").stat().st_mode & 0o777 for suffix in (".state", ".memory")]
    assert modes == [0o600, 0o600]

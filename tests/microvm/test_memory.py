"""Memory that comes from a file, is plugged in, or is given back; and the console."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from microvm.monitor import Monitor
from microvm.test_vmm import memory_kib


def pmem(path: Path, **more: object) -> dict[str, object]:
    return {"id": "data", "path_on_host": str(path), **more}


def test_pmem_is_read_and_written_as_memory(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first bytes 1234" + bytes(10_000))
    monitor.ok("PUT", "/pmem/data", pmem(path))
    monitor.boot(guest, "test=pmem")
    # The size is a whole number of 2 MiB.
    assert monitor.finish().splitlines() == ["size 2097152", "first bytes 1234", "flush 0", "ABCD"]
    assert path.read_bytes()[4096 : 4096 + 64] == bytes(ord("A") + i % 26 for i in range(64))
    assert path.stat().st_size == 10_016


def test_read_only_pmem_is_not_written(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first bytes 1234" + bytes(10_000))
    monitor.ok("PUT", "/pmem/data", pmem(path, read_only=True))
    monitor.boot(guest, "test=pmem")
    assert monitor.finish().splitlines()[:2] == ["size 2097152", "first bytes 1234"]
    assert path.read_bytes()[16:] == bytes(10_000)


def test_pmem_as_root_is_on_the_command_line(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monitor.ok("PUT", "/pmem/data", pmem(tmp_path / "file", root_device=True, read_only=True))
    body = {"drive_id": "d", "is_root_device": True, "is_read_only": True, "path_on_host": str(tmp_path / "file")}
    assert "Attempt to add block as a root device" in monitor.fault("PUT", "/drives/d", body)
    assert "A root pmem device already exist" in monitor.fault("PUT", "/pmem/other", {**pmem(tmp_path / "file", root_device=True), "id": "other"})
    monitor.boot(guest, "test=commandline")
    assert " root=/dev/pmem0 ro" in monitor.finish()


def test_memory_is_plugged_and_unplugged(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/hotplug/memory", {"total_size_mib": 256, "slot_size_mib": 128, "block_size_mib": 2})
    assert "before starting" in monitor.fault("PATCH", "/hotplug/memory", {"requested_size_mib": 4})
    monitor.boot(guest, "test=hotplug")
    assert monitor.read_until("ready\n").splitlines() == ["block 2097152", "plug before it is asked for 1", "ready"]
    assert "at most 256 MiB" in monitor.fault("PATCH", "/hotplug/memory", {"requested_size_mib": 258})
    assert "blocks of 2 MiB" in monitor.fault("PATCH", "/hotplug/memory", {"requested_size_mib": 3})
    monitor.ok("PATCH", "/hotplug/memory", {"requested_size_mib": 132})
    lines = monitor.read_until("wait\n").splitlines()
    assert lines[:6] == ["plug 0", "plugged 66", "plug too much 1", "plug again 3", "plug elsewhere 3", "good 132"]
    # What was unplugged and is plugged again holds nothing.
    assert lines[6:] == ["unplug 0", "state 0", "mixed 2", "plug 0", "content 0", "wait"]
    status = monitor.ok("GET", "/hotplug/memory")
    assert (status["plugged_size_mib"], status["requested_size_mib"], status["total_size_mib"]) == (132, 132, 256)
    monitor.ok("PATCH", "/hotplug/memory", {"requested_size_mib": 0})
    assert monitor.finish() == "unplug all 0\nplugged 0\n"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"total_size_mib": 128, "slot_size_mib": 64}, "Slot size must not be lower than 128 MiB"),
        ({"total_size_mib": 128, "block_size_mib": 3}, "Block size must be a power of 2"),
        ({"total_size_mib": 100}, "Total size must not be lower than slot size"),
        ({"total_size_mib": 1 << 60}, "Total size must not be higher than"),
        ({"total_size_mib": -1}, "invalid value"),
    ],
)
def test_wrong_sizes_are_refused(monitor: Monitor, body: dict[str, int], text: str) -> None:
    assert text in monitor.fault("PUT", "/hotplug/memory", body)


def balloon(**more: object) -> dict[str, object]:
    return {"amount_mib": 0, "deflate_on_oom": False, **more}


def test_reported_pages_go_back_to_the_host(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/balloon", balloon(free_page_reporting=True))
    monitor.boot(guest, "test=reporting")
    monitor.read_until("touched\n")
    before = memory_kib(monitor.process.pid)
    monitor.type("x")
    monitor.read_until("reported 0\n")
    assert before - memory_kib(monitor.process.pid) > 15 << 10


def test_hinted_pages_go_back_to_the_host(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/balloon", balloon(free_page_hinting=True))
    monitor.boot(guest, "test=hinting")
    monitor.read_until("touched\n")
    before = memory_kib(monitor.process.pid)
    monitor.type("x")
    monitor.read_until("ready\n")
    assert monitor.ok("GET", "/balloon/hinting/status") == {"host_cmd": 0, "guest_cmd": None}
    monitor.ok("PATCH", "/balloon/hinting/start", {"acknowledge_on_stop": True})
    monitor.read_until("hinted 1\n")
    assert before - memory_kib(monitor.process.pid) > 15 << 10
    assert monitor.ok("GET", "/balloon/hinting/status") == {"host_cmd": 1, "guest_cmd": 0}
    monitor.ok("PATCH", "/balloon/hinting/stop")


def test_hinting_that_was_not_configured_is_refused(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/balloon", balloon())
    monitor.boot(guest, "test=count")
    for method, path in [("PATCH", "start"), ("GET", "status"), ("PATCH", "stop")]:
        assert "hinting" in monitor.fault(method, f"/balloon/hinting/{path}")


def test_console_carries_bytes_both_ways_for_one_client_after_the_other(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "console")
    monitor.ok("PUT", "/casemate/console", {"uds_path": path})
    monitor.boot(guest, "test=console")
    monitor.read_until("ready\n")
    first, second = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for stream in (first, second):
        stream.settimeout(20)
        stream.connect(path)
    sent = os.urandom(50_000).replace(b"!", b"?")
    received = b""
    position = 0
    while len(received) < len(sent):
        position += first.send(sent[position : position + 1000]) if position < len(sent) else 0
        received += first.recv(65536)
    assert received == sent.upper()
    first.close()
    second.sendall(b"bye!")
    assert second.recv(16) == b"BYE!"
    second.close()
    monitor.finish()
    assert not Path(path).exists()


def test_devices_go_on_in_a_copy(start: Callable[..., Monitor], guest: Path, tmp_path: Path) -> None:
    """The guest has found its memory device and waits; the copy's API lets it plug."""
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    snapshot = {"snapshot_path": str(tmp_path / "state"), "mem_file_path": str(tmp_path / "memory")}
    first = start()
    first.ok(
        "PUT", "/drives/d", {"drive_id": "d", "is_root_device": False, "is_read_only": False, "path_on_host": str(tmp_path / "file"), "io_engine": "Async"}
    )
    first.ok("PUT", "/pmem/p", {"id": "p", "path_on_host": str(tmp_path / "file")})
    first.ok("PUT", "/entropy", {"rate_limiter": {"ops": {"size": 5, "refill_time": 100}}})
    first.ok("PUT", "/balloon", balloon(free_page_hinting=True, free_page_reporting=True))
    first.ok("PUT", "/casemate/console", {"uds_path": str(tmp_path / "console")})
    first.ok("PUT", "/hotplug/memory", {"total_size_mib": 256})
    first.boot(guest, "test=hotplug")
    first.read_until("ready\n")
    first.ok("PATCH", "/vm", {"state": "Paused"})
    first.ok("PUT", "/snapshot/create", snapshot)
    first.close()
    copy = start()
    copy.ok(
        "PUT",
        "/snapshot/load",
        {"snapshot_path": snapshot["snapshot_path"], "mem_backend": {"backend_type": "File", "backend_path": snapshot["mem_file_path"]}, "resume_vm": True},
    )
    copy.ok("PATCH", "/hotplug/memory", {"requested_size_mib": 132})
    lines = copy.read_until("wait\n").splitlines()
    assert lines[:6] == ["plug 0", "plugged 66", "plug too much 1", "plug again 3", "plug elsewhere 3", "good 132"]
    copy.ok("PATCH", "/hotplug/memory", {"requested_size_mib": 0})
    assert copy.finish() == "unplug all 0\nplugged 0\n"

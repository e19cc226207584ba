"""Memory that comes from a file, is plugged in, or is given back; and the console."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from microvm.monitor import Monitor
from microvm.test_vmm import memory_kib


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

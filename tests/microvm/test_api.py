"""The API: bodies, states, refusals, and input that no client sends."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microvm.monitor import Monitor


def test_description_and_version(start: Callable[..., Monitor]) -> None:
    monitor = start("--id", "my-vm")
    answer = monitor.ok("GET", "/")
    assert (answer["id"], answer["state"], answer["app_name"]) == ("my-vm", "Not started", "casemate")
    assert monitor.ok("GET", "/version") == {"firecracker_version": "1.16.0"}


def test_machine_config_defaults_put_and_patch(monitor: Monitor) -> None:
    assert monitor.ok("GET", "/machine-config")["mem_size_mib"] == 128
    monitor.ok("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256})
    monitor.ok("PATCH", "/machine-config", {"mem_size_mib": 512})
    answer = monitor.ok("GET", "/machine-config")
    assert (answer["vcpu_count"], answer["mem_size_mib"], answer["smt"], answer["huge_pages"]) == (2, 512, False, "None")


NO_DISK = "Virtio backend error: Error manipulating the backing file: No such file or directory (os error 2) /no/such"


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        (
            "PUT",
            "/machine-config",
            {"vcpu_count": 0, "mem_size_mib": 128},
            "Machine config error: The number of vCPUs must be greater than 0, less than 32 and",
        ),
        (
            "PUT",
            "/machine-config",
            {"vcpu_count": 33, "mem_size_mib": 128},
            "Machine config error: The number of vCPUs must be greater than 0, less than 32 and",
        ),
        (
            "PUT",
            "/machine-config",
            {"vcpu_count": 3, "mem_size_mib": 128, "smt": True},
            "Machine config error: The number of vCPUs must be greater than 0, less than 32 and",
        ),
        (
            "PUT",
            "/machine-config",
            {"vcpu_count": 1, "mem_size_mib": 0},
            "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.",
        ),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 1 << 60}, "memory size (MiB) is either 0, or not a multiple"),
        ("PUT", "/machine-config", {"vcpu_count": 1}, "missing field `mem_size_mib`"),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 1, "mem": 2}, "unknown field `mem`"),
        (
            "PUT",
            "/machine-config",
            {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "T2A"},
            "Machine config error: The CPU template T2A is for other processors",
        ),
        ("PUT", "/cpu-config", {"msr_modifiers": [{"addr": "x", "bitmap": "0b1"}]}, "no number of 32 bits"),
        (
            "PUT",
            "/cpu-config",
            {"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "eax", "bitmap": "0b2"}]}]},
            "is not 0b",
        ),
        ("PUT", "/cpu-config", {"reg_modifiers": [{}]}, "for processors of ARM"),
        ("PATCH", "/machine-config", {}, "Empty PATCH request."),
        (
            "PUT",
            "/boot-source",
            {"kernel_image_path": "/no/such/kernel"},
            "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)",
        ),
        ("PUT", "/drives/a", {"drive_id": "b", "is_root_device": False}, "does not match the id from the body"),
        ("PUT", "/drives/a-b", {"drive_id": "a-b", "is_root_device": False}, "alphanumeric"),
        (
            "PUT",
            "/drives/a",
            {"drive_id": "a", "is_root_device": False, "is_read_only": True, "path_on_host": "/no/such"},
            f"Drive config error: Unable to create the virtio block device: {NO_DISK}",
        ),
        ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "is_read_only": True, "path_on_host": "/dev/null"}, "neither"),
        ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "io_engine": "Lazy"}, "unknown variant `Lazy`"),
        ("PUT", "/vsock", {"guest_cid": 2, "uds_path": "v"}, "Vsock config error: The guest CID is invalid"),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/no/such/folder/v"}, "Vsock config error: Cannot create backend for vsock device: "),
        ("PUT", "/network-interfaces/e", {"iface_id": "e", "host_dev_name": "t", "guest_mac": "1:2"}, "Network config error: Invalid MAC address"),
        ("PUT", "/balloon", {"amount_mib": 129, "deflate_on_oom": False}, "Balloon config error: Amount of pages requested is too large."),
        ("GET", "/balloon", None, "Balloon config error: No balloon device found."),
        ("PUT", "/hotplug/memory", {"total_size_mib": 128, "block_size_mib": 1}, "Memory hotplug config error: Block size must not be lower than 2 MiB"),
        ("PUT", "/hotplug/memory", {"total_size_mib": 128, "block_size_mib": 3}, "Block size must be a power of 2"),
        ("PUT", "/hotplug/memory", {"total_size_mib": 128, "slot_size_mib": 64}, "Slot size must not be lower than 128 MiB"),
        ("PUT", "/hotplug/memory", {"total_size_mib": 256, "slot_size_mib": 130, "block_size_mib": 4}, "Slot size must be a multiple of block size (4 MiB)"),
        ("PUT", "/hotplug/memory", {"total_size_mib": 64}, "Total size must not be lower than slot size (128 MiB)"),
        ("PUT", "/hotplug/memory", {"total_size_mib": 129}, "Total size must be a multiple of slot size (128 MiB)"),
        ("PUT", "/logger", {"level": "Loud"}, "Invalid log level"),
        (
            "PUT",
            "/mmds/config",
            {"network_interfaces": ["eth9"]},
            "MMMDS config error: The list of network interface IDs provided contains at least one ID that does not correspond",
        ),
        ("PATCH", "/mmds", {"a": 1}, "MMDS error: The MMDS data store is not initialized."),
        ("PUT", "/pmem/a", {"id": "a", "path_on_host": "/no/such"}, "Pmem device error: Unable to create the virtio-pmem device: Error manipulating"),
        ("PUT", "/logger", {"log_path": "/no/such/log"}, "Logger error: Failed to open target file: No such file"),
        (
            "PUT",
            "/snapshot/load",
            {"snapshot_path": "/no/such", "mem_backend": {"backend_type": "File", "backend_path": "/no/such"}},
            "Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from file: ",
        ),
        ("PUT", "/snapshot/load", {"snapshot_path": "x"}, "`mem_backend` or `mem_file_path` is required"),
        ("PUT", "/actions", {"action_type": "Explode"}, "unknown variant `Explode`"),
        ("PUT", "/actions", {"action_type": "InstanceStart"}, "Start microvm error: Cannot start microvm without kernel configuration."),
        ("PUT", "/actions", {"action_type": "FlushMetrics"}, "not supported before starting"),
        ("PATCH", "/vm", {"state": "Paused"}, "not supported before starting"),
        ("PATCH", "/drives/a", {"drive_id": "a"}, "not supported before starting"),
        ("GET", "/nothing", None, "Invalid request method and/or path: GET /nothing."),
        ("DELETE", "/vm", {}, "Invalid request method and/or path: DELETE /vm."),
    ],
)
def test_refusals_name_what_is_wrong(monitor: Monitor, method: str, path: str, body: Any, text: str) -> None:
    assert text in monitor.fault(method, path, body)


def test_refusals_after_the_start_say_what_they_are_about(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    monitor.ok("PUT", "/drives/d", {"drive_id": "d", "is_root_device": False, "is_read_only": True, "path_on_host": str(disk)})
    monitor.boot(guest, "test=count")
    for path, body, text in [
        ("/drives/d", {"drive_id": "d", "path_on_host": "/no/such"}, f"Drive config error: Unable to patch the block device: {NO_DISK}"),
        ("/drives/d", {"drive_id": "d"}, "Drive config error: Unable to patch the block device: Running method expected different backend."),
        ("/drives/e", {"drive_id": "e", "path_on_host": "x"}, "Drive config error: Unable to patch the block device: Device e not found."),
        ("/network-interfaces/e", {"iface_id": "e"}, "Network config error: "),
        ("/pmem/p", {"id": "p"}, "Pmem device error: Unable to patch the pmem device: Device p not found."),
        ("/balloon", {"amount_mib": 1}, "Balloon update error: No balloon device found."),
        ("/balloon/statistics", {"stats_polling_interval_s": 1}, "Balloon update error: No balloon device found."),
        ("/hotplug/memory", {"requested_size_mib": 128}, "Memory hotplug update error: "),
    ]:
        assert text in monitor.fault("PATCH", path, body)


def test_only_before_start(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    monitor.ok("PUT", "/metrics", {"metrics_path": str(tmp_path / "metrics")})
    monitor.ok("PUT", "/logger", {"log_path": str(tmp_path / "log"), "level": "info", "show_level": True})
    monitor.boot(guest, "test=count")
    monitor.read_until("1\n")
    assert monitor.ok("GET", "/")["state"] == "Running"
    after = "not supported after starting the microVM."
    assert after in monitor.fault("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    assert after in monitor.fault("PUT", "/boot-source", {"kernel_image_path": str(guest)})
    assert after in monitor.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    monitor.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
    counted = json.loads((tmp_path / "metrics").read_text())
    requests = counted["put_api_requests"]
    assert (requests["machine_cfg_count"], requests["machine_cfg_fails"], requests["actions_fails"]) == (2, 1, 1)
    assert counted["vcpu"]["exit_io_out"] > 0
    assert ":INFO] the machine runs" in (tmp_path / "log").read_text()


def test_failed_start_can_be_repeated(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"\x7fELF" + bytes(100))
    monitor.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(tmp_path / "kernel")})
    assert "kernel" in monitor.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    monitor.boot(guest, "test=hello")
    assert monitor.finish() == "hello\n"


def test_mmds_put_patch_get(monitor: Monitor) -> None:
    assert monitor.ok("GET", "/mmds") == {}
    monitor.ok("PUT", "/mmds", {"a": {"b": 1, "c": 2}})
    monitor.ok("PATCH", "/mmds", {"a": {"b": None, "d": 3}})
    assert monitor.ok("GET", "/mmds") == {"a": {"c": 2, "d": 3}}


def test_drive_is_replaced_while_it_runs(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    for name, size in [("one", 4096), ("two", 8192)]:
        (tmp_path / name).write_bytes(bytes(size))
    body = {"drive_id": "d", "is_root_device": True, "is_read_only": False, "path_on_host": str(tmp_path / "one")}
    monitor.ok("PUT", "/drives/d", body)
    monitor.boot(guest, "test=count")
    monitor.ok("PATCH", "/drives/d", {"drive_id": "d", "path_on_host": str(tmp_path / "two")})
    assert monitor.ok("GET", "/vm/config")["drives"][0]["path_on_host"] == str(tmp_path / "two")
    assert "No such file" in monitor.fault("PATCH", "/drives/d", {"drive_id": "d", "path_on_host": "/no/such"})
    assert "Device e not found" in monitor.fault("PATCH", "/drives/e", {"drive_id": "e"})


def exchange(monitor: Monitor, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(5)
        stream.connect(str(monitor.socket))
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        answer = b""
        while more := stream.recv(65536):
            answer += more
        return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 33 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"PUT /mmds HTTP/1.1\r\nContent-Length: 60000\r\n\r\n", 413),
        (b"PUT /mmds HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"PUT /mmds HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"PUT /mmds HTTP/1.1\r\nContent-Length: 20000\r\n\r\n" + b"[" * 20000, 400),
        (b"PUT /mmds HTTP/1.1\r\nContent-Length: 2\r\n\r\n\xff\xfe", 400),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (b"PUT /mmds HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", 204),
    ],
)
def test_hostile_http_is_answered_and_the_api_lives_on(monitor: Monitor, data: bytes, status: int) -> None:
    assert exchange(monitor, data).startswith(b"HTTP/1.1 %d " % status)
    monitor.ok("GET", "/")


def test_requests_in_a_row_are_answered_in_a_row(monitor: Monitor) -> None:
    answer = exchange(monitor, b"GET /version HTTP/1.1\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "is_deprecated"),
    [
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "VSOCK", "vsock_id": "v"}, True),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "VSOCK"}, False),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "None"}, True),
        ("PATCH", "/machine-config", {"cpu_template": "None"}, True),
        ("PATCH", "/machine-config", {"mem_size_mib": 64}, False),
        ("PUT", "/snapshot/load", {"snapshot_path": "/no/such", "mem_file_path": "/no/such"}, True),
        ("PUT", "/mmds/config", {"network_interfaces": []}, True),
        ("PUT", "/mmds/config", {"version": "V2", "network_interfaces": []}, False),
        ("PUT", "/mmds", {"version": "V1"}, False),
    ],
)
def test_what_is_deprecated_is_told(start: Callable[..., Monitor], tmp_path: Path, method: str, path: str, body: Any, is_deprecated: bool) -> None:
    """As Firecracker tells it: a header of the answer, a line of the log, a count."""
    monitor = start("--log-path", str(tmp_path / "log"), "--level", "Warning")
    text = json.dumps(body).replace("VSOCK", str(tmp_path / "vsock"))
    monitor.connection.request(method, path, text)
    response = monitor.connection.getresponse()
    response.read()
    assert response.getheader("Deprecation") == ("true" if is_deprecated else None)
    assert ("deprecated" in (tmp_path / "log").read_text()) == is_deprecated


def test_many_silent_clients_do_not_lock_the_api(monitor: Monitor) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for stream in silent:
        stream.connect(str(monitor.socket))
    assert exchange(monitor, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
    for stream in silent:
        stream.close()


def test_cpu_template_is_applied_when_the_machine_starts(monitor: Monitor, guest: Path) -> None:
    def hiding(leaf: str) -> dict[str, object]:
        return {"cpuid_modifiers": [{"leaf": leaf, "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "ecx", "bitmap": "0b0xx"}]}]}

    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": "test=hello"})
    monitor.ok("PUT", "/cpu-config", hiding("0x4fffffff"))
    assert "leaf 0x4fffffff" in monitor.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    monitor.ok("PUT", "/cpu-config", hiding("0x1"))
    assert monitor.ok("GET", "/vm/config")["cpu-config"]["cpuid_modifiers"][0]["leaf"] == "0x1"
    # Whether the guest sees it is KVM's matter; this host's shows its own CPUID in any case.
    monitor.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    assert monitor.finish() == "hello\n"


def test_named_cpu_template_starts(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "T2"})
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": "test=hello"})
    monitor.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    assert monitor.finish() == "hello\n"


def test_metrics_and_log_of_the_command_line(start: Callable[..., Monitor], guest: Path, tmp_path: Path) -> None:
    metrics, log = tmp_path / "metrics", tmp_path / "log"
    options = ["--metrics-path", str(metrics), "--log-path", str(log), "--level", "Info", "--show-level", "--show-log-origin", "--no-seccomp"]
    monitor = start(*options, "--start-time-us", "1", "--start-time-cpu-us", "1", "--parent-cpu-time-us", "7")
    monitor.ok("PUT", "/entropy", {})
    monitor.boot(guest, "test=entropy")
    monitor.finish()
    counted = json.loads(metrics.read_text().splitlines()[-1])
    assert counted["entropy"]["entropy_bytes"] == 64
    assert counted["api_server"]["process_startup_time_us"] > 0
    assert counted["put_api_requests"]["entropy_count"] == 1
    assert "anonymous-instance:main:INFO:crates/vmm/src/controller/instance.rs:" in log.read_text()


def test_log_of_one_module(start: Callable[..., Monitor], guest: Path, tmp_path: Path) -> None:
    monitor = start("--log-path", str(tmp_path / "log"), "--level", "Info", "--module", "api::server")
    monitor.boot(guest, "test=hello")
    monitor.finish()
    assert (tmp_path / "log").read_text() == ""

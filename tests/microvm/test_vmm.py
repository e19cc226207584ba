"""Guests of ours on the monitor: what they print, read, write and get when they misbehave."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from microvm.monitor import Monitor, build_bzimage, engine, wait_for

Start = Callable[..., Monitor]


def test_64_bit_elf_prints_and_its_reset_ends_the_monitor(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=hello")
    assert monitor.finish() == "hello\n"
    assert not monitor.socket.exists()


def test_pvh_elf_gets_its_command_line(monitor: Monitor, pvh_guest: Path, tmp_path: Path) -> None:
    monitor.ok("PUT", "/entropy", {})
    monitor.boot(pvh_guest, "test=commandline")
    assert monitor.finish() == "test=commandline virtio_mmio.device=4K@0xc0001000:5"


def test_bzimage_is_entered_at_its_64_bit_entry(monitor: Monitor, tmp_path: Path) -> None:
    monitor.boot(build_bzimage(tmp_path / "bzImage"), "test=hello")
    assert monitor.finish() == "hello\n"


@pytest.mark.parametrize("kind", ["guest", "pvh_guest"])
def test_initramfs_reaches_the_guest(monitor: Monitor, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "initrd").write_bytes(b"the initramfs" * 1000)
    kernel = request.getfixturevalue(kind)
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(kernel), "initrd_path": str(tmp_path / "initrd"), "boot_args": "test=initrd"})
    monitor.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    assert monitor.finish() == "the initramfs" * 1000


def test_initramfs_larger_than_the_memory_is_refused(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    with (tmp_path / "initrd").open("wb") as file:
        file.truncate(1 << 30)
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "initrd_path": str(tmp_path / "initrd")})
    assert "does not fit" in monitor.fault("PUT", "/actions", {"action_type": "InstanceStart"})


@pytest.mark.parametrize("kind", ["guest", "pvh_guest"])
def test_acpi_tables_have_right_sums(monitor: Monitor, kind: str, request: pytest.FixtureRequest) -> None:
    monitor.ok("PUT", "/entropy", {})
    monitor.boot(request.getfixturevalue(kind), "test=acpi")
    assert monitor.finish().splitlines() == ["RSD PTR  good", "XSDT good", "FACP good", "DSDT good", "APIC good"]


def test_memory_above_4_gib_is_possible(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=hello", memory_mib=4096)
    assert monitor.finish() == "hello\n"


def test_configuration_file_without_api(guest: Path, tmp_path: Path) -> None:
    config = {"boot-source": {"kernel_image_path": str(guest), "boot_args": "test=hello"}, "machine-config": {"vcpu_count": 2, "mem_size_mib": 64}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = [str(engine()), "vmm", "--no-api", "--config-file", str(tmp_path / "config.json"), "--boot-timer", "--log-path", str(tmp_path / "log")]
    assert subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True).stdout == b"hello\n"
    assert "Guest-boot-time" in (tmp_path / "log").read_text()


def drive(path: Path, **more: object) -> dict[str, object]:
    return {"drive_id": "data", "path_on_host": str(path), "is_root_device": False, "is_read_only": False, **more}


@pytest.mark.parametrize("engine", ["Sync", "Async"])
def test_block_reads_writes_flushes_and_refuses(monitor: Monitor, guest: Path, tmp_path: Path, engine: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"first sector 123" + bytes(8 * 512 - 16))
    monitor.ok("PUT", "/drives/data", drive(disk, cache_type="Writeback", io_engine=engine))
    monitor.boot(guest, "test=block")
    lines = monitor.finish().splitlines()
    assert lines[:6] == ["capacity 8", "read 0", "first sector 123", "write 0", "flush 0", "id 0"]
    assert lines[7:] == ["behind the end 1", "half a sector 1", "no such request 2"]
    pattern = bytes(ord("A") + i % 26 for i in range(1024))
    assert disk.read_bytes() == b"first sector 123" + bytes(1024 - 16) + pattern + bytes(4 * 512)


@pytest.mark.parametrize("engine", ["Sync", "Async"])
def test_block_keeps_to_its_limit_until_it_is_patched(monitor: Monitor, guest: Path, tmp_path: Path, engine: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    once = {"size": 1, "one_time_burst": 9, "refill_time": 3_600_000}
    monitor.ok("PUT", "/drives/data", drive(disk, io_engine=engine, rate_limiter={"ops": once}))
    monitor.boot(guest, "test=block-speed count=20")
    assert monitor.process.stdout
    assert not select.select([monitor.process.stdout], [], [], 0.2)[0]
    monitor.ok("PATCH", "/drives/data", {"drive_id": "data", "rate_limiter": {"ops": {"size": 0, "refill_time": 0}}})
    assert "cycles" in monitor.finish()


def test_requests_under_way_end_before_a_pause(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    monitor.ok("PUT", "/drives/data", drive(disk, io_engine="Async"))
    monitor.boot(guest, "test=block-speed count=2000")
    for _ in range(5):
        monitor.ok("PATCH", "/vm", {"state": "Paused"})
        monitor.ok("PATCH", "/vm", {"state": "Resumed"})
    assert "cycles" in monitor.finish()


def test_read_only_block_is_not_written(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    monitor.ok("PUT", "/drives/data", drive(disk, is_read_only=True))
    monitor.boot(guest, "test=block")
    lines = monitor.finish().splitlines()
    assert "write 1" in lines
    # The API's default, "Unsafe", offers no flush.
    assert "flush 2" in lines
    assert disk.read_bytes() == bytes(4096)


def test_broken_chains_stop_the_device_and_a_reset_repairs_it(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    monitor.ok("PUT", "/drives/data", drive(tmp_path / "disk"))
    monitor.boot(guest, "test=block-hostile")
    names = ["loop", "outside", "device window", "order", "far index", "no such descriptor"]
    assert monitor.finish().splitlines() == [*(f"{name} 1" for name in names), "read after all that 0"]


def test_entropy_fills_buffers(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/entropy", {})
    monitor.boot(guest, "test=entropy")
    length, digits = monitor.finish().split()
    assert length == "64"
    assert len(digits) == 128
    assert len(set(bytes.fromhex(digits))) > 8


def connect(path: Path, port: int) -> tuple[socket.socket, bytes]:
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(str(path))
    stream.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n") and (byte := stream.recv(1)):
        line += byte
    return stream, line


def test_vsock_host_connects_to_the_guest(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    path = tmp_path / "vsock"
    monitor.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(path)})
    monitor.boot(guest, "test=vsock-echo")
    monitor.read_until("ready\n")
    stream, line = connect(path, 52)
    assert line.startswith(b"OK ")
    # More than the guest's buffers and both credits hold.
    sent = os.urandom(300_000)
    received = b""
    position = 0
    while len(received) < len(sent):
        position += stream.send(sent[position : position + 4096]) if position < len(sent) else 0
        received += stream.recv(65536)
    assert received == sent
    stream.shutdown(socket.SHUT_WR)
    assert stream.recv(1) == b""
    stream.close()
    other, line = connect(path, 53)
    assert line == b""
    other.close()


def test_vsock_guest_connects_to_the_host(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "vsock_700"))
        listener.listen()
        listener.settimeout(20)
        monitor.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
        monitor.boot(guest, "test=vsock-connect")
        stream, _ = listener.accept()
        with stream:
            assert stream.recv(5) == b"guest"
            stream.sendall(b"host")
            assert monitor.finish() == "ready\nrefused\naccepted\nhost\n"
    assert not (tmp_path / "vsock").exists()


def memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def code_kib(pid: int) -> int:
    """How much of its executable's code and constants a process has in its page tables."""
    found, is_code = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            is_code = words[-1] == str(engine().resolve()) and "w" not in words[1]
        elif words[0] == "Rss:" and is_code:
            found += int(words[1])
    return found


def test_what_only_the_start_needs_is_given_back(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": "test=count"})
    before = code_kib(monitor.process.pid)
    monitor.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    monitor.read_until("1\n")
    # To start a machine and to run it takes further code: without giving back there would be more.
    assert 0 < code_kib(monitor.process.pid) < before


def test_balloon_gives_memory_back(monitor: Monitor, guest: Path) -> None:
    monitor.ok("PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1})
    monitor.boot(guest, "test=balloon")
    before = memory_kib(monitor.process.pid)
    monitor.ok("PATCH", "/balloon", {"amount_mib": 16})
    monitor.read_until("inflated 4096\n", timeout_s=60)
    # The guest touched each of the 16 MiB before it gave them away.
    assert memory_kib(monitor.process.pid) - before < 2048
    statistics = monitor.ok("GET", "/balloon/statistics")
    assert statistics["target_pages"] == 4096
    assert statistics["actual_mib"] == 16
    assert "larg" in monitor.fault("PATCH", "/balloon", {"amount_mib": 4096})


def test_serial_input_reaches_the_guest(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=serial")
    monitor.read_until("ready\n")
    # Longer than the port's buffer of 64 bytes.
    monitor.type("abcdefghij" * 20 + "!")
    assert monitor.finish() == "ABCDEFGHIJ" * 20


def test_a_terminal_is_raw_while_the_guest_runs(guest: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"boot-source": {"kernel_image_path": str(guest), "boot_args": "test=count"}}))
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    words = [str(engine()), "vmm", "--no-api", "--config-file", str(tmp_path / "config.json")]
    process = subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    # The guest runs when it prints, and the loop sees to the terminal at its next turn.
    process.stdout.readline()
    wait_for(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO)
    process.kill()
    process.communicate(timeout=10)
    assert before[3] & termios.ECHO
    os.close(ours)
    os.close(theirs)


def test_ctrl_alt_del(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=keys")
    monitor.read_until("ready\n")
    monitor.ok("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
    assert monitor.finish() == "1411e071"


def test_pause_stands_still_and_resume_goes_on(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=count")
    monitor.read_until("10\n")
    monitor.ok("PATCH", "/vm", {"state": "Paused"})
    assert monitor.ok("GET", "/")["state"] == "Paused"
    assert monitor.process.stdout
    os.set_blocking(monitor.process.stdout.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while os.read(monitor.process.stdout.fileno(), 65536):
            pass
    time.sleep(0.1)
    with pytest.raises(BlockingIOError):
        os.read(monitor.process.stdout.fileno(), 1)
    os.set_blocking(monitor.process.stdout.fileno(), True)
    monitor.ok("PATCH", "/vm", {"state": "Resumed"})
    assert monitor.ok("GET", "/")["state"] == "Running"
    monitor.read_until("\n")


def test_kill_leaves_no_process_and_the_next_monitor_takes_the_sockets(start: Start, guest: Path, tmp_path: Path) -> None:
    first = start()
    first.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    first.boot(guest, "test=count")
    first.read_until("1\n")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(timeout=10)
    assert not Path(f"/proc/{first.process.pid}").exists()
    second = start()
    second.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    second.boot(guest, "test=hello")
    assert second.finish() == "hello\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_a_living_monitors_socket_is_not_taken(monitor: Monitor) -> None:
    words = [str(engine()), "vmm", "--api-sock", str(monitor.socket)]
    second = subprocess.run(words, capture_output=True, timeout=10, check=False)
    assert second.returncode == 1
    assert b"in use" in second.stderr
    monitor.ok("GET", "/")


def test_closed_output_does_not_end_the_guest(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=count")
    monitor.read_until("1\n")
    assert monitor.process.stdout
    monitor.process.stdout.close()
    time.sleep(0.05)
    assert monitor.ok("GET", "/")["state"] == "Running"
    monitor.process.stdout = None


def test_output_that_nobody_reads_holds_up_neither_guest_nor_api(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    monitor.ok("PUT", "/metrics", {"metrics_path": str(tmp_path / "metrics")})
    assert monitor.process.stdout
    fcntl.fcntl(monitor.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    monitor.boot(guest, "test=flood")
    # Pausing waits for the processor, which must not wait for the reader.
    monitor.ok("PATCH", "/vm", {"state": "Paused"})
    monitor.ok("PATCH", "/vm", {"state": "Resumed"})
    monitor.process.wait(120)
    lost = json.loads((tmp_path / "metrics").read_text().splitlines()[-1])["uart"]["missed_write_count"]
    assert lost > 0
    line = b"0123456789abcdef0123456789abcde\n"
    received = monitor.process.stdout.read()
    # What a pipe holds; the backlog ends with the monitor.
    assert received == (line * 9000)[: len(received)]


def test_serial_output_keeps_to_its_limit(monitor: Monitor, guest: Path, tmp_path: Path) -> None:
    limit = {"size": 5, "refill_time": 3_600_000}
    monitor.ok("PUT", "/serial", {"serial_out_path": str(tmp_path / "serial"), "rate_limiter": limit})
    monitor.boot(guest, "test=hello")
    monitor.finish()
    assert (tmp_path / "serial").read_text() == "hello"

"""SIGKILL of the monitor at random instants: nothing of it is left, and no half snapshot is taken for a whole one."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from microvm.monitor import Monitor, UnixConnection, wait_for
from microvm.test_fork import Start
from microvm.test_snapshot import ask, begin, create, load, pause, snapshot, start

__all__ = ["start"]

# Instants differ from run to run by the machine's own noise; the seeds only spread them.
SEEDS = range(4)


def processes(folder: Path) -> list[int]:
    """Monitors started in the folder; forked children have their parent's command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def kill_within(monitor: Monitor, limit_s: float, seed: int) -> None:
    time.sleep(random.Random(seed).uniform(0, limit_s))
    monitor.process.kill()
    monitor.process.wait(timeout=10)


def answers(path: Path) -> bool:
    """Whether a monitor serves there; one that ends instead is waited for."""
    try:
        with contextlib.closing(UnixConnection(path)) as connection:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def request_and_forget(monitor: Monitor, path: str, body: Any) -> threading.Thread:
    def send() -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.closing(UnixConnection(monitor.socket)) as connection:
            other = Monitor.__new__(Monitor)
            other.connection = connection
            other.request("PUT", path, body)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("seed", SEEDS)
def test_while_it_starts_and_boots(start: Start, guest: Path, tmp_path: Path, seed: int) -> None:
    first = start()
    first.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
    first.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": "test=count"})
    thread = request_and_forget(first, "/actions", {"action_type": "InstanceStart"})
    kill_within(first, 0.02, seed)
    thread.join()
    assert processes(tmp_path) == []
    second = Monitor(first.socket.parent)
    try:
        second.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(tmp_path / "vsock")})
        second.boot(guest, "test=hello")
        assert second.finish() == "hello\n"
    finally:
        second.close()
    assert list(first.socket.parent.iterdir()) == []
    assert not (tmp_path / "vsock").exists()


@pytest.mark.parametrize("seed", SEEDS)
def test_while_it_writes_a_snapshot_over_another(start: Start, guest: Path, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    monitor = start()
    begin(monitor, guest, mib=8)
    path = snapshot(monitor, folder)
    assert ask(monitor, "n") == "written"
    pause(monitor)
    thread = request_and_forget(monitor, "/snapshot/create", create(path))
    kill_within(monitor, 0.04, seed)
    thread.join()
    assert processes(tmp_path) == []
    copy = start()
    if Path(f"{path}.state").exists():
        copy.ok("PUT", "/snapshot/load", load(path))
        # Of one of the two instants, and whole.
        assert ask(copy, "q") == "512"
    else:
        assert "No such file" in copy.fault("PUT", "/snapshot/load", load(path))
        begin(copy, guest, mib=8)
    # The next snapshot takes whatever lies there away.
    snapshot(copy, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["snapshot.memory", "snapshot.state"]


@pytest.mark.parametrize("seed", SEEDS)
def test_while_it_forks(start: Start, guest: Path, tmp_path: Path, seed: int) -> None:
    parent = start()
    begin(parent, guest, mib=1)
    order = {"count": 8, "child": {"api_sock": str(tmp_path / "child{}")}}
    thread = request_and_forget(parent, "/casemate/fork", order)
    kill_within(parent, 0.05, seed)
    thread.join()
    # All children run, or none does: those that had not got the word end, and take their sockets along.
    wait_for(lambda: not processes(tmp_path) or all(answers(tmp_path / f"child{number}") for number in range(8)))
    left = processes(tmp_path)
    sockets = sorted(path.name for path in tmp_path.glob("child*"))
    for pid in left:
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    wait_for(lambda: not processes(tmp_path))
    assert sockets == ([f"child{number}" for number in range(8)] if left else [])

"""The manager on this host's real cgroups: limits read back, processes joined, stopped, killed, counted; nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.errors import CgroupError
from casemate.host import process
from casemate.host.cgroup import Manager, open_manager, tree

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
MIB = 1 << 20
# Waits for its standard input before it does anything, so that the test can put it into the cgroup first.
EATER = "import sys; sys.stdin.read(); held = [bytearray(1 << 20) for _ in range(400)]"


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = open_manager(f"/casemate-unit/{os.getpid()}", "unused", systemd=False, rootless=False)
    manager.create()
    yield manager
    manager.kill_all(signal.SIGKILL)
    manager.destroy()
    assert not [path for path in manager.paths().values() if Path(path).exists()]
    for path in manager.paths().values():
        if Path(path).parent.exists():
            Path(path).parent.rmdir()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


def value(manager: Manager, controller: str, v1_file: str, v2_file: str) -> str:
    paths = manager.paths()
    return Path(paths[controller] + "/" + v1_file if controller in paths else paths[""] + "/" + v2_file).read_text().strip()


def test_limits_read_back(manager: Manager) -> None:
    manager.apply({"memory": {"limit": 64 * MIB}, "pids": {"limit": 21}, "cpu": {"quota": 50000, "period": 100000}})
    assert value(manager, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert value(manager, "pids", "pids.max", "pids.max") == "21"
    assert value(manager, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


def test_memory_and_swap_can_be_raised_and_lowered(manager: Manager) -> None:
    for size in (64, 256, 32):
        manager.apply({"memory": {"limit": size * MIB, "swap": 2 * size * MIB}})
        assert value(manager, "memory", "memory.limit_in_bytes", "memory.max") == str(size * MIB)


def test_update_leaves_other_limits(manager: Manager) -> None:
    manager.apply({"pids": {"limit": 21}})
    manager.update({"memory": {"limit": 64 * MIB}})
    assert value(manager, "pids", "pids.max", "pids.max") == "21"


def test_refused_value_names_file_and_field(manager: Manager) -> None:
    with pytest.raises(CgroupError) as caught:
        manager.apply({"cpu": {"cpus": "4000"}})
    assert caught.value.field == "linux.resources.cpu.cpus"
    assert caught.value.path.endswith("cpuset.cpus")
    assert caught.value.errno != 0


def test_join_freeze_thaw_kill(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    manager.join(sleeper.pid)
    assert manager.pids(all=True) == [sleeper.pid]
    manager.freeze()
    assert manager.frozen()
    manager.thaw()
    assert not manager.frozen()
    manager.kill_all(signal.SIGTERM)
    assert sleeper.wait(5) == -signal.SIGTERM


def test_kill_reaches_a_frozen_container(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    manager.join(sleeper.pid)
    manager.freeze()
    manager.kill_all(signal.SIGKILL)
    assert sleeper.wait(5) == -signal.SIGKILL


def test_join_of_a_process_that_is_gone(manager: Manager) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(CgroupError) as caught:
        manager.join(child.pid)
    assert caught.value.errno == 3


def test_second_container_in_one_cgroup_is_refused(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    manager.join(sleeper.pid)
    second = open_manager(f"/casemate-unit/{os.getpid()}", "unused", systemd=False, rootless=False)
    with pytest.raises(CgroupError, match="not empty"):
        second.create()
    Manager.from_state(second.to_state()).kill_all(signal.SIGKILL)
    assert sleeper.poll() is None


def test_cgroups_that_the_container_made_are_removed_and_counted(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    inner = Path(manager.places[-1].path) / "inner" / "deeper"
    inner.mkdir(parents=True)
    (inner / "cgroup.procs").write_text(str(sleeper.pid))
    assert manager.pids(all=False) == []
    assert manager.pids(all=True) == [sleeper.pid]
    manager.kill_all(signal.SIGKILL)
    sleeper.wait(5)
    manager.destroy()
    assert not inner.exists()


def test_oom_is_counted_and_told(manager: Manager) -> None:
    manager.apply({"memory": {"limit": 48 * MIB, "swap": 48 * MIB}})
    source = manager.oom_event_source()
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", EATER], stdin=subprocess.PIPE) as child:
        manager.join(child.pid)
        child.communicate(b"", timeout=20)
    assert child.returncode == -signal.SIGKILL
    import select

    poll = select.poll()
    poll.register(source.fd, source.events)
    assert poll.poll(2000)
    assert source.acknowledge() == manager.oom_kills() == 1
    source.close()


def test_statistics_have_runc_shape(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    manager.apply({"pids": {"limit": 9}})
    manager.join(sleeper.pid)
    stats = manager.stats()
    assert set(stats) == {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"}
    assert stats["pids"] == {"current": 1, "limit": 9}


def test_state_round_trip_serves_a_later_command(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    manager.join(sleeper.pid)
    later = Manager.from_state(manager.to_state())
    assert later.pids() == [sleeper.pid]


def test_destroy_twice(manager: Manager) -> None:
    manager.destroy()
    manager.destroy()


def opens(manager: Manager, path: str) -> bool:
    """Whether a process of the container can open a device for reading."""
    code = "import os, sys; sys.stdin.read(); os.open(sys.argv[1], os.O_RDONLY)"
    command = [sys.executable, "-I", "-S", "-c", code, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        manager.join(child.pid)
        child.communicate(b"")
    return child.returncode == 0


def test_device_rules_are_in_force(manager: Manager) -> None:
    manager.apply({})
    assert opens(manager, "/dev/zero")
    assert not opens(manager, "/dev/fuse")
    manager.update({"devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]})
    assert opens(manager, "/dev/fuse")


def test_device_program_is_in_force(manager: Manager) -> None:
    """v2's way, also where this host has v1's devices controller as well: the program alone decides here."""
    unified = manager.paths().get("")
    if unified is None:
        pytest.skip("no cgroup v2 on this host")
    from casemate.host.cgroup import bpf, device_program, devices

    bpf.replace_device_programs(unified, device_program.assemble(devices.rules_of(None)))
    assert opens(manager, "/dev/zero")
    assert not opens(manager, "/dev/fuse")
    bpf.replace_device_programs(unified, device_program.assemble([devices.Rule(True, "a", -1, -1, "rwm")]))
    assert opens(manager, "/dev/fuse")


def test_self_join_by_tasks_files(manager: Manager) -> None:
    tasks, _ = manager.join_files()
    if not tasks:
        pytest.skip("no cgroup v1 on this host")
    code = "import sys; [open(path, 'w').write('0') for path in sys.argv[1:]]; print(open('/proc/self/cgroup').read())"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, *tasks], capture_output=True, text=True, check=True)
    assert done.stdout.count(f"/casemate-unit/{os.getpid()}") == len(tasks)


def test_busy_cgroup_is_an_error_with_a_remedy(manager: Manager, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_PAUSES_S", (0.001,))
    manager.join(sleeper.pid)
    with pytest.raises(CgroupError, match="still has processes"):
        manager.destroy()
    for place in manager.places:  # destroy has removed those it could; put back what the fixture looks at
        Path(place.path).mkdir(exist_ok=True)


def test_identity_of_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    started = process.start_time(sleeper.pid)
    assert process.is_same(sleeper.pid, started)
    assert not process.is_same(sleeper.pid, started + 1)
    assert process.open_pidfd(sleeper.pid, started + 1) is None
    assert process.send_signal(sleeper.pid, started, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert process.state(sleeper.pid) == "Z"
    sleeper.wait()
    assert (process.start_time(sleeper.pid), process.state(sleeper.pid)) == (0, "")
    assert not process.send_signal(sleeper.pid, started, signal.SIGKILL)

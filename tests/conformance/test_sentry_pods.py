"""Several containers in one sandbox, as a CRI makes them: the annotations, then the OCI verbs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import leftovers
from pod import DEADLINE_S, KIND, SANDBOX_ID, Pod


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path, "sentry")
    made.start("pause", "sleep", "1000", kind="sandbox", user={"uid": 65535, "gid": 65535})
    yield made
    made.close()
    for container in made.made:
        assert leftovers(container, tmp_path) == []


def sentries() -> set[int]:
    """Processes with a thread that serves a sandbox's calls."""
    found = set()
    for thread in Path("/proc").glob("[0-9]*/task/[0-9]*/comm"):
        try:
            if thread.read_text() == "worker\n":
                found.add(int(thread.parts[2]))
        except OSError:
            continue
    return found


def test_containers_share_one_sentry(pod: Pod) -> None:
    before = sentries()
    one, two = pod.start("one", "sleep", "1000"), pod.start("two", "sleep", "1000")
    assert pod.pid(pod.id) in before
    assert not {pod.pid(one), pod.pid(two)} & sentries()
    assert [pod.status(name) for name in (pod.id, one, two)] == ["running"] * 3


def test_each_has_its_own_root_processes_names_and_mounts(pod: Pod) -> None:
    (one, two) = (pod.start(name, "sh", "-c", f"echo {name} > /mine; exec sleep 1000") for name in ("one", "two"))
    for container, name in ((one, "one"), (two, "two")):
        looks = (
            "cat /mine",
            "hostname",
            "ps -o pid,args | grep -c 'sleep 1000$'",
            "cat /proc/1/comm",
            "readlink /proc/self/exe",
            "grep -c /shared /proc/mounts",
        )
        script = "; ".join(("until [ -s /mine ]; do :; done", *looks))
        assert pod.exec(container, script).split() == [name, name, "1", "sleep", "/bin/busybox", "1"]
    assert pod.exec(pod.id, "ls /mine 2>&1; hostname", 0).split()[-1] == "pause"


def test_a_container_ends_with_its_code_and_the_others_go_on(pod: Pod) -> None:
    one, two = pod.start("one", "sh", "-c", "sleep 1000 & exit 3"), pod.start("two", "sleep", "1000")
    pod.wait(one)
    pod.verb("delete", one)
    assert pod.status(two) == "running"
    assert pod.exec(two, "echo lives") == "lives\n"
    again = pod.start("three", "sh", "-c", "echo again > /shared/again; sleep 1000")
    assert pod.shared("again") == "again\n"
    assert pod.status(again) == "running"


def test_exit_code_of_run(pod: Pod) -> None:
    pod.create("one", "sh", "-c", "exit 7")
    pod.verb("delete", "--force", f"{pod.id}-one")
    assert pod.verb("run", "--bundle", str(pod.directory / "one"), f"{pod.id}-one", check=False).returncode == 7


def test_a_container_s_calls_and_threads_are_its_own(pod: Pod) -> None:
    log, two = pod.directory / "log", pod.start("two", "sleep", "1000")
    pod.create("one", "sh", "-c", "echo mine > /shared/one; exec sleep 1000")
    one = f"{pod.id}-one"
    pod.verb("delete", "--force", one)
    pod.verb("--strace", "--strace-log", str(log), "run", "--detach", "--bundle", str(pod.directory / "one"), one)
    assert pod.shared("one") == "mine\n"
    pod.exec(two, "echo other > /shared/two")
    text = log.read_text()
    assert 'write(1, "mine\\n", 5) = 5' in text
    assert "other" not in text
    for container, name in ((one, "one"), (two, "two")):
        files = json.loads(pod.verb("debug", "--json", container).stdout)["mappings"]
        assert {file["pid"] for file in files} == {1}, name
        calls = json.loads(pod.verb("events", "--syscalls", "--json", container).stdout)["calls"]
        assert sum(row["calls"] for row in calls) > 0


def test_signals_reach_the_container_s_program(pod: Pod) -> None:
    script = "trap 'echo term > /shared/one; exit 5' TERM; echo ready > /shared/ready; while :; do sleep 0.05; done"
    one, two = pod.start("one", "sh", "-c", script), pod.start("two", "sleep", "1000")
    pod.shared("ready")
    pod.verb("kill", one, "TERM")
    assert pod.shared("one") == "term\n"
    pod.wait(one)
    pod.verb("kill", two, "KILL")
    pod.wait(two)
    assert pod.status(pod.id) == "running"


def test_local_sockets_and_fifos_of_a_shared_volume_connect(pod: Pod) -> None:
    one = pod.start("one", "sh", "-c", "mkfifo /shared/fifo 2>/dev/null || busybox mkfifo /shared/fifo; cat /shared/fifo > /shared/got")
    two = pod.start("two", "sh", "-c", "until [ -p /shared/fifo ]; do :; done; echo across > /shared/fifo; exec sleep 1000")
    assert pod.shared("got") == "across\n"
    pod.wait(one)
    assert pod.status(two) == "running"


def test_pause_and_stats_are_the_container_s(pod: Pod) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /shared/{}; done"
    one, two = pod.start("one", "sh", "-c", script.format("one")), pod.start("two", "sh", "-c", script.format("two"))
    pod.shared("one")
    pod.shared("two")
    pod.verb("pause", one)
    assert (pod.status(one), pod.status(two)) == ("paused", "running")
    seen = (pod.directory / "shared/one").read_text()
    other = pod.shared("two")
    deadline = time.monotonic() + DEADLINE_S
    while pod.shared("two") == other:
        assert time.monotonic() < deadline
    assert (pod.directory / "shared/one").read_text() == seen
    pod.verb("resume", one)
    pod.wait(one, "running")
    stats = json.loads(pod.verb("events", "--stats", two).stdout)["data"]
    assert stats["cpu"]["usage"]["total"] > 0


def test_limits_are_the_container_s(pod: Pod) -> None:
    linux = json.loads((pod.directory / "pause/config.json").read_text())["linux"]
    linux |= {"cgroupsPath": f"/casemate-test/{pod.id}-one", "resources": {"memory": {"limit": 64 << 20}, "cpu": {"quota": 100000, "period": 100000}}}
    one = pod.start("one", "sleep", "1000", linux=linux)
    assert pod.exec(one, "cat /sys/fs/cgroup/memory.max; grep -c ^processor /proc/cpuinfo").split() == [str(64 << 20), "1"]


def test_the_end_of_the_sandbox_ends_all(pod: Pod) -> None:
    one = pod.start("one", "sleep", "1000")
    pod.verb("kill", pod.id, "KILL")
    pod.wait(pod.id)
    pod.wait(one)


def test_a_killed_container_leaves_no_process(pod: Pod) -> None:
    one = pod.start("one", "sh", "-c", "sleep 1000 & sleep 1000")
    os.kill(pod.pid(one), 9)
    pod.wait(one)
    pod.verb("delete", one)
    assert pod.status(pod.id) == "running"


def test_a_container_s_user_and_program_that_is_missing(pod: Pod) -> None:
    one = pod.start("one", "sleep", "1000", user={"uid": 1000, "gid": 1000})
    assert pod.exec(one, "id -u; touch /x 2>/dev/null || echo refused").split() == ["1000", "refused"]
    with pytest.raises(AssertionError, match="no-such-program"):
        pod.create("two", "no-such-program")


def test_a_sandbox_holds_sixteen_more_and_a_place_is_free_again_after_delete(pod: Pod) -> None:
    """Its threads were made before its jail was closed."""
    threads = len(list(Path(f"/proc/{pod.pid(pod.id)}/task").iterdir()))
    names = [pod.start(f"c{number}", "sleep", "1000") for number in range(16)]
    with pytest.raises(AssertionError, match="delete one first"):
        pod.start("late", "true")
    for number in range(3):
        pod.verb("delete", "--force", names[number])
        later = pod.start(f"later{number}", "sleep", "1000")
        assert pod.exec(later, "echo lives") == "lives\n"
    assert len(list(Path(f"/proc/{pod.pid(pod.id)}/task").iterdir())) == threads


def test_without_its_sandbox_a_container_is_refused(tmp_path: Path) -> None:
    lonely = Pod(tmp_path, "sentry")
    with pytest.raises(AssertionError, match="create and start the pod's sandbox first"):
        lonely.create("one", "true", annotations={KIND: "container", SANDBOX_ID: "none", "dev.casemate.isolation": "sentry"})
    lonely.close()

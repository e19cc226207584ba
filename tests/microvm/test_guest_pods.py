"""Several containers in one virtual machine: the annotations of a CRI, then the OCI verbs. One machine for all tests that do not end it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle import CASEMATE, leftovers
from casemate.host import process
from pod import DEADLINE_S, KIND, SANDBOX_ID, Pod

HYPERVISORS = ("uml", "qemu")


def boot(directory: Path, hypervisor: str) -> Pod:
    made = Pod(directory, "microvm")
    annotations = {KIND: "sandbox", SANDBOX_ID: made.id, "dev.casemate.isolation": "microvm", "dev.casemate.hypervisor": hypervisor}
    made.start("pause", "sleep", "1000", kind="sandbox", annotations=annotations)
    return made


@pytest.fixture(scope="module", params=HYPERVISORS)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    directory = tmp_path_factory.mktemp("pod")
    made = boot(directory, str(request.param))
    yield made
    made.close()
    for container in made.made:
        assert leftovers(container, directory) == []


@pytest.fixture
def pod(machine: Pod) -> Iterator[Pod]:
    before = len(machine.made)
    yield machine
    for container in reversed(machine.made[before:]):
        machine.verb("delete", "--force", container, check=False)
    assert machine.status(machine.id) == "running"
    assert sorted(os.listdir(f"/proc/{machine.pid(machine.id)}/root/share")) == ["0", "root"], "what a container had in the machine went with it"


def test_each_has_its_own_root_and_names_in_one_kernel(pod: Pod) -> None:
    one, two = (pod.start(name, "sh", "-c", f"echo {name} > /mine; exec sleep 1000") for name in ("a1", "a2"))
    boots = set()
    for container, name in ((one, "a1"), (two, "a2")):
        seen = pod.exec(container, "until [ -s /mine ]; do :; done; cat /mine; hostname; cat /proc/1/comm; cat /proc/sys/kernel/random/boot_id").split()
        assert seen[:3] == [name, name, "sleep"]
        boots.add(seen[3])
    assert len(boots) == 1
    assert boots != {Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    assert pod.exec(pod.id, "ls /mine 2>/dev/null; hostname", 0).split() == ["pause"]
    shown = pod.verb("ps", one).stdout
    assert shown.count("sleep 1000") == 1


def test_codes_signals_and_streams_are_each_containers_own(pod: Pod) -> None:
    script = "trap 'echo term > /shared/b1; exit 5' TERM; echo ready > /shared/ready; while :; do sleep 0.05; done"
    one, two = pod.start("b1", "sh", "-c", script), pod.start("b2", "sleep", "1000")
    pod.shared("ready")
    pod.verb("kill", one, "TERM")
    assert pod.shared("b1") == "term\n"
    pod.wait(one)
    pod.verb("kill", two, "KILL")
    pod.wait(two)
    pod.create("b3", "sh", "-c", "cat; echo out; echo err >&2; exit 7")
    pod.verb("delete", "--force", f"{pod.id}-b3")
    words = [CASEMATE, "--root", str(pod.directory / "state"), "run", "--bundle", str(pod.directory / "b3"), f"{pod.id}-b3"]
    done = subprocess.run(words, input="in\n", capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\nout\n", "err\n")
    with pytest.raises(AssertionError, match="no-such-program"):
        pod.create("b4", "no-such-program")


def test_exec_with_and_without_a_terminal(pod: Pod) -> None:
    one = pod.start("c1", "sleep", "1000")
    done = subprocess.run(
        [CASEMATE, "--root", str(pod.directory / "state"), "exec", one, "sh", "-c", "cat; exit 4"],
        input="said", capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, "said")
    pid, master = pty.fork()
    if pid == 0:
        os.execv(CASEMATE, [CASEMATE, "--root", str(pod.directory / "state"), "exec", "--tty", one, "sh", "-c", "test -t 1 && echo terminal; exit 6"])
    seen = b""
    while b"terminal" not in seen:
        seen += os.read(master, 4096)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    os.close(master)


def test_pause_limits_and_stats_are_the_containers(pod: Pod) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /shared/{}; sleep 0.01; done"
    linux = json.loads((pod.directory / "pause/config.json").read_text())["linux"]
    linux |= {"cgroupsPath": f"/casemate-test/{pod.id}-d1", "resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 30}}}
    one, two = pod.start("d1", "sh", "-c", script.format("d1"), linux=linux), pod.start("d2", "sh", "-c", script.format("d2"))
    pod.shared("d1")
    pod.verb("pause", one)
    assert (pod.status(one), pod.status(two)) == ("paused", "running")
    seen, other = (pod.directory / "shared/d1").read_text(), pod.shared("d2")
    deadline = time.monotonic() + DEADLINE_S
    while pod.shared("d2") == other:
        assert time.monotonic() < deadline
    assert (pod.directory / "shared/d1").read_text() == seen
    pod.verb("resume", one)
    pod.wait(one, "running")
    stats: dict[str, Any] = json.loads(pod.verb("events", "--stats", one).stdout)["data"]
    assert stats["memory"]["usage"]["limit"] == 64 << 20
    assert 0 < stats["memory"]["usage"]["usage"] < 64 << 20
    assert stats["cpu"]["usage"]["total"] > 0
    assert stats["pids"] == {"current": stats["pids"]["current"], "limit": 30}
    pod.verb("update", "--memory", str(32 << 20), one)
    stats = json.loads(pod.verb("events", "--stats", one).stdout)["data"]
    assert stats["memory"]["usage"]["limit"] == 32 << 20
    refused = pod.verb("update", "--memory", str(64 << 30), one, check=False)
    assert (refused.returncode != 0, "a limit cannot grow beyond" in refused.stderr) == (True, True)


def test_namespaces_of_the_sandbox_are_shared_in_the_guest(pod: Pod) -> None:
    """A CRI names those of the sandbox's process on the host; they are the guest's then."""
    pid = pod.pid(pod.id)
    linux = json.loads((pod.directory / "pause/config.json").read_text())["linux"]
    paths = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}
    spaces = [{"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in paths.items()]
    linux |= {"cgroupsPath": f"/casemate-test/{pod.id}-e1", "namespaces": [*spaces, {"type": "mount"}, {"type": "cgroup"}]}
    config = json.loads((pod.directory / "pause/config.json").read_text())
    one = pod.start("e1", "sleep", "1001", linux=linux, hostname="")
    look = "for name in net ipc uts pid; do readlink /proc/self/ns/$name; done; hostname"
    assert pod.exec(one, look) == pod.exec(pod.id, look)
    assert pod.exec(one, "hostname") == f"{config['hostname']}\n"
    assert "sleep 1000" in pod.exec(one, "ps")


def test_a_killed_stand_in_ends_its_container_and_no_other(pod: Pod) -> None:
    one, two = pod.start("f1", "sh", "-c", "echo up > /shared/f1; sleep 1000 & sleep 1000"), pod.start("f2", "sleep", "1000")
    pod.shared("f1")
    os.kill(pod.pid(one), 9)
    pod.wait(one)
    pod.verb("delete", one)
    assert pod.exec(two, "echo lives") == "lives\n"


def test_the_machine_ends_with_its_sandbox(tmp_path: Path) -> None:
    pod = boot(tmp_path, "uml")
    one = pod.start("one", "sleep", "1000")
    pids = [pod.pid(pod.id), pod.pid(one)]
    pod.verb("kill", pod.id, "KILL")
    pod.wait(pod.id)
    pod.wait(one)
    pod.close()
    assert [pid for pid in pids if process.state(pid) not in ("Z", "X", "")] == []
    assert leftovers(pod.id, tmp_path) == []

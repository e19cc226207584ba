"""SIGKILL at random instants of a guest's life, of whichever process of ours: nothing is left on the host, and nobody waits for ever.

The processes of a container's cgroup are the relay, the hypervisor, its file server and, with User Mode Linux, the guest's own: agent and programs.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bundle import CASEMATE, Bundle, leftovers
from casemate.host import process
from pod import KIND, SANDBOX_ID, Pod

ROUNDS = {"uml": 8, "qemu": 3}
LIFE_S = {"uml": 2.0, "qemu": 5.0}  # about as long as create, start and the program's first steps take
POD_ROUNDS = {"uml": 2, "qemu": 1}
# CASEMATE_ROUNDS=20: as many times as many.
MORE = int(os.environ.get("CASEMATE_ROUNDS") or 1)
SEED = int(os.environ.get("CASEMATE_SEED") or 20261128)
PATIENCE_S = 15


def in_cgroup(container: str) -> list[int]:
    """The processes of a container on the host, in whatever hierarchy they are."""
    found: set[int] = set()
    for tasks in Path("/sys/fs/cgroup").glob(f"*/casemate-test/{container}/cgroup.procs"):
        try:
            found |= {int(pid) for pid in tasks.read_text().split()}
        except OSError:
            continue
    return sorted(found)


def is_gone(pid: int) -> bool:
    return process.state(pid) in ("Z", "X", "")


@pytest.mark.parametrize("hypervisor", ROUNDS)
def test_at_a_random_instant(hypervisor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_HYPERVISOR", hypervisor)
    chance = random.Random(SEED)
    for number in range(ROUNDS[hypervisor] * MORE):
        directory = tmp_path / str(number)
        directory.mkdir()
        what = kill_once(directory, chance, LIFE_S[hypervisor])
        assert what == "", f"CASEMATE_SEED={SEED}, round {number}: {what}"


def kill_once(directory: Path, chance: random.Random, life_s: float) -> str:
    """One container, one kill; says what is wrong."""
    bundle = Bundle(directory, "casemate")
    bundle.config["annotations"] = {"dev.casemate.isolation": "microvm"}
    bundle.config["process"]["args"] = ["sh", "-c", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; sleep 0.01; done"]
    bundle.write()
    words = [bundle.runtime, "--root", str(bundle.state), "run", "--bundle", str(directory), bundle.id]
    with (directory / "output").open("wb") as output:
        runner = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    instant = time.monotonic() + chance.uniform(0, life_s)
    seen: set[int] = set()
    while time.monotonic() < instant and runner.poll() is None:
        seen |= set(in_cgroup(bundle.id))
        time.sleep(0.01)
    ours = [runner.pid, *in_cgroup(bundle.id)[:3]]  # the relay, and the hypervisor, with its file server
    victim = chance.choice([*ours, *in_cgroup(bundle.id)])
    is_ours = victim in ours
    name = "casemate" if victim == runner.pid else command(victim)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        pass
    waits = ""
    try:
        runner.wait(PATIENCE_S if is_ours else 5)
    except subprocess.TimeoutExpired:
        # A kernel that lost one of its own processes hangs, and is declared dead a minute later (crates/relay/src/relay.rs, SILENCE_MS).
        waits = f"after {name} was killed, `run` still waits" if is_ours else ""
        bundle.close()
        runner.wait(10)
    seen |= set(in_cgroup(bundle.id))
    bundle.close()
    return waits or left(bundle, seen, name)


def wait_until_gone(pids: set[int]) -> str:
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if not is_gone(pid)]:
        if time.monotonic() > deadline:
            return f"processes {alive} are left"
        time.sleep(0.01)
    return ""


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()[:60].replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "what had ended"


def left(bundle: Bundle, seen: set[int], name: str) -> str:
    if waits := wait_until_gone(seen):
        return f"after {name} was killed, {waits}"
    found = leftovers(bundle.id, bundle.directory)
    return f"after {name} was killed: {found}" if found else ""


@pytest.mark.parametrize("hypervisor", ROUNDS)
def test_in_a_pod_at_a_random_instant(hypervisor: str, tmp_path: Path) -> None:
    """Whichever process of ours is killed while the containers of a pod come and run: each verb answers, and after `delete` nothing is left."""
    chance = random.Random(SEED)
    for number in range(POD_ROUNDS[hypervisor] * MORE):
        directory = tmp_path / str(number)
        directory.mkdir()
        what = kill_in_pod(directory, hypervisor, chance)
        assert what == "", f"CASEMATE_SEED={SEED}, round {number}: {what}"


def kill_in_pod(directory: Path, hypervisor: str, chance: random.Random) -> str:
    """One pod, one kill; says what is wrong."""
    pod = Pod(directory, "microvm")
    names = [f"{pod.id}-pause", *(f"{pod.id}-c{number}" for number in range(3))]
    seen: set[int] = set()
    killed: list[str] = []
    is_over = threading.Event()

    def kill() -> None:
        instant = time.monotonic() + chance.uniform(0, 2 * LIFE_S[hypervisor])
        while not is_over.wait(0.01):
            found = [pid for name in names for pid in in_cgroup(name)[:3]]  # relay, hypervisor and file server; the process that stands for a container
            seen.update(pid for name in names for pid in in_cgroup(name))
            if found and time.monotonic() > instant and not killed:
                victim = chance.choice(found)
                killed.append(command(victim))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with contextlib.suppress(AssertionError):  # a verb that fails, since something was killed; one that hangs is another error
            annotations = {KIND: "sandbox", SANDBOX_ID: pod.id, "dev.casemate.isolation": "microvm", "dev.casemate.hypervisor": hypervisor}
            pod.start("pause", "sleep", "1000", kind="sandbox", annotations=annotations)
            for number in range(3):
                pod.start(f"c{number}", "sh", "-c", "while :; do echo; sleep 0.01; done")
            while not killed:
                pod.verb("exec", f"{pod.id}-c1", "true")
    finally:
        pod.close()
        is_over.set()
        killer.join()
    if waits := wait_until_gone(seen):
        return f"after {killed} was killed, {waits}"
    found = [f"{base}/{name}" for base, below, _ in os.walk("/sys/fs/cgroup") for name in below if name in names]
    return f"after {killed} was killed: {found}" if found else ""


def test_a_killed_do_takes_its_machine_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the signal of a parent's death, which the kernel forgets when a process changes its ids, as the relay does."""
    monkeypatch.setenv("CASEMATE_HYPERVISOR", "uml")
    words = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", "--", "sh", "-c", "echo runs; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "runs\n"
        (relay,) = process_children(running.pid)
        running.kill()
    deadline = time.monotonic() + 10
    while not is_gone(relay):
        assert time.monotonic() < deadline, "its relay lives on"
        time.sleep(0.01)


def process_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

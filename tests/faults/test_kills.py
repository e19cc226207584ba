"""SIGKILL at any instant: the next `delete --force` leaves no process, mount, cgroup or state."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bundle import Bundle, leftovers

INSTANTS = 30
_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    """What loses its parent becomes a child of this process, so that none can hide."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children(pid: int | str = "self") -> list[int]:
    try:
        return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    except OSError:
        return []


def assert_childless() -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in children()]
        time.sleep(0.001)


def delete_and_reap(bundle: Bundle) -> None:
    """A process namespace ends only when all its dead are reaped, and their parent is this process."""
    started = begin(bundle, ["delete", "--force", bundle.id])
    while started.poll() is None:
        for pid in children():
            if pid != started.pid:
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.001)
    text = (bundle.directory / "err").read_text()
    assert started.returncode == 0 or "does not exist" in text, text


def begin(bundle: Bundle, words: list[str]) -> subprocess.Popen[str]:
    null = subprocess.DEVNULL
    command = [bundle.runtime, "--root", str(bundle.state), *words]
    with (bundle.directory / "err").open("w") as err:
        return subprocess.Popen(command, stdin=null, stdout=null, stderr=err, text=True, cwd=bundle.directory)


def kill_command(started: subprocess.Popen[str], moment: float) -> None:
    try:
        started.wait(moment)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()


def kill_engine(started: subprocess.Popen[str], moment: float) -> None:
    """Waits for the engine (a child of the command), lets it work for the moment and kills it; the command must end by itself."""
    while started.poll() is None and not children(started.pid):
        pass
    try:
        started.wait(moment / 4)
    except subprocess.TimeoutExpired:
        for pid in children(started.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    started.wait(10)


# the verb: what precedes it
VERBS: dict[str, tuple[list[str], list[str]]] = {
    "run": ([], ["run", "--bundle", ".", "ID"]),
    "create": ([], ["create", "--bundle", ".", "ID"]),
    "start": (["create"], ["start", "ID"]),
    "exec": (["create", "start"], ["exec", "ID", "sleep", "0.01"]),
    "delete": (["create", "start"], ["delete", "--force", "ID"]),
}


def prepare(bundle: Bundle, verb: str, number: int) -> list[str]:
    """A new container of the bundle in the state that the verb needs; returns the verb's words."""
    bundle.id = f"{bundle.id.split('-')[0]}-{number}"
    bundle.config["linux"]["cgroupsPath"] = f"/casemate-test/{bundle.id}"
    bundle.config["process"]["args"] = ["sleep", "0.01" if verb == "run" else "100"]
    bundle.write()
    before, words = VERBS[verb]
    for step in before:
        begin(bundle, [step, *(["--bundle", "."] if step == "create" else []), bundle.id]).wait(10)
    return [bundle.id if word == "ID" else word for word in words]


@pytest.mark.parametrize("kill", [kill_command, kill_engine])
@pytest.mark.parametrize("verb", VERBS)
def test_kill_leaves_nothing_that_delete_does_not_end(bundle: Bundle, verb: str, kill: Callable[[subprocess.Popen[str], float], None]) -> None:
    instants = random.Random(f"{verb} {kill.__name__}")
    begun = time.monotonic()
    begin(bundle, prepare(bundle, verb, 0)).wait(10)
    duration = time.monotonic() - begun
    bundle.verb("delete", "--force", bundle.id)
    for number in range(1, INSTANTS + 1):
        kill(begin(bundle, prepare(bundle, verb, number)), instants.uniform(0, duration))
        assert "Traceback" not in (bundle.directory / "err").read_text()
        delete_and_reap(bundle)
        assert_childless()
        assert leftovers(bundle.id, bundle.directory) == []


def test_second_create_after_a_kill(bundle: Bundle) -> None:
    """An id whose create was killed is taken or free, never in between: after `delete --force` it can be created again."""
    bundle.config["process"]["args"] = ["true"]
    bundle.write()
    instants = random.Random(7)
    words = ["create", "--bundle", str(bundle.directory), bundle.id]
    for _ in range(10):
        kill_command(begin(bundle, words), instants.uniform(0, 0.05))
        bundle.verb("delete", "--force", bundle.id)
        assert bundle.verb(*words).returncode == 0
        bundle.verb("delete", "--force", bundle.id, check=True)
    assert_childless()

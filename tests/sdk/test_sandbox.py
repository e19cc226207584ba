"""`Sandbox`: its life, from this process and from others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from casemate import Sandbox, SandboxError, SandboxNotFound, run


def wait_until_ended(sandbox: Sandbox) -> None:
    deadline = time.monotonic() + 10
    while sandbox.is_running():
        assert time.monotonic() < deadline


def test_the_block_ends_it_and_leaves_nothing(state_root: str) -> None:
    with Sandbox.create(state_root=state_root) as sandbox:
        sandbox.commands.run("sleep 100", True, timeout=None)
        name = sandbox.sandbox_id
        assert sandbox.is_running()
    assert not sandbox.is_running()
    assert not [path for path in os.listdir(state_root) if name in path]
    assert name not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/**/*{name}*"))


def test_kill_says_whether_it_ran(state_root: str) -> None:
    sandbox = Sandbox.create(state_root=state_root)
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    with pytest.raises(SandboxNotFound):
        sandbox.commands.run("true")


def test_another_process_finds_it(fresh: Sandbox, state_root: str) -> None:
    fresh.files.write("note", "from the first")
    program = (
        "import sys; from casemate import Sandbox\n"
        "s = Sandbox.connect(sys.argv[1], state_root=sys.argv[2])\n"
        "print(s.files.read('note'), s.commands.run('pwd').stdout.strip(), [i.sandbox_id for i in Sandbox.list(state_root=sys.argv[2])].count(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, fresh.sandbox_id, state_root], capture_output=True, text=True, check=True)
    assert done.stdout == "from the first /home/user 1\n"


def test_it_outlives_its_maker(state_root: str) -> None:
    program = "import sys; from casemate import Sandbox; print(Sandbox.create(state_root=sys.argv[1], metadata={'a': 'b'}).sandbox_id)"
    made = subprocess.run([sys.executable, "-c", program, state_root], capture_output=True, text=True, check=True).stdout.strip()
    sandbox = Sandbox.connect(made, state_root=state_root)
    assert sandbox.get_info().metadata == {"a": "b"}
    assert sandbox.commands.run("echo here").stdout == "here\n"
    assert sandbox.kill() is True


def test_its_timeout_ends_it(state_root: str) -> None:
    sandbox = Sandbox.create(state_root=state_root)
    sandbox.commands.run("trap '' TERM; sleep 100", True, timeout=None)
    sandbox.set_timeout(0.1)
    wait_until_ended(sandbox)
    with pytest.raises(SandboxNotFound, match="has ended"):
        sandbox.commands.run("true")
    assert sandbox.kill() is True


def test_what_a_killed_caller_left_is_collected(state_root: str) -> None:
    from casemate.runtime.collect import collect

    sandbox = Sandbox.create(state_root=state_root, timeout=0.05)
    wait_until_ended(sandbox)
    collected = collect(state_root, now=time.time() + 60)
    assert sandbox.sandbox_id in collected
    assert not [path for path in os.listdir(state_root) if sandbox.sandbox_id in path]
    sandbox.close()


def test_connect_to_none(state_root: str) -> None:
    with pytest.raises(SandboxNotFound):
        Sandbox.connect("sbx-0", state_root=state_root)


def test_metrics_tell_of_use_and_limits(state_root: str) -> None:
    with Sandbox.create(state_root=state_root, memory="64M", pids=50) as sandbox:
        sandbox.commands.run("head -c 20000000 /dev/zero | wc -c")
        metrics = sandbox.get_metrics()
    assert metrics.memory_limit == 64 << 20
    assert metrics.processes_limit == 50
    assert 0 < metrics.memory <= 64 << 20
    assert metrics.cpu_s > 0


@pytest.mark.parametrize(
    "wrong", [{"rootfs": "/nowhere"}, {"network": "lan"}, {"memory": "lots"}, {"cpus": -1}, {"binds": [("/nowhere", "/x")]}, {"envs": {"a=b": "c"}}]
)
def test_wrong_arguments_are_named(wrong: dict[str, object], state_root: str) -> None:
    with pytest.raises(SandboxError, match=next(iter(wrong)).replace("envs", "environment")):
        Sandbox.create(state_root=state_root, **wrong)  # type: ignore[arg-type]


def test_two_sandboxes_are_strangers(state_root: str) -> None:
    with Sandbox.create(state_root=state_root) as one, Sandbox.create(state_root=state_root) as two:
        one.files.write("/tmp/x", "secret")
        assert not two.files.exists("/tmp/x")
        owners = {Path(f"/proc/{sandbox._session._running.pid}").stat().st_uid for sandbox in (one, two)}  # type: ignore[union-attr]
        uids = [Path(f"/proc/{sandbox._session._running.pid}/status").read_text().split("Uid:")[1].split()[0] for sandbox in (one, two)]  # type: ignore[union-attr]
    assert len(set(uids)) == 2
    assert os.geteuid() != 0 or "0" not in uids
    assert owners  # the agent is not dumpable: /proc/PID belongs to root


def test_one_shot_gives_all_at_once(state_root: str) -> None:
    result = run("cat; echo err >&2; exit 3", input="fed\n", state_root=state_root)
    assert (result.stdout, result.stderr, result.exit_code) == ("fed\n", "err\n", 3)
    assert run(["no-such-program"], state_root=state_root).exit_code == 127
    assert run(["sleep", "100"], timeout=0.2, state_root=state_root).exit_code == 124
    assert "memory" in run(["python3", "-c", "bytearray(10**9)"], memory="64M", state_root=state_root).error
    assert not [path for path in os.listdir(state_root) if "run-" in path]

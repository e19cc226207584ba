"""The life cycle (runtime.md "Lifecycle") and the verbs around it, as engines use them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bundle import Bundle, ignored_signals


def wait_for(bundle: Bundle, status: str) -> None:
    deadline = time.monotonic() + 10
    while bundle.status() != status:
        assert time.monotonic() < deadline, f"still {bundle.status()}"


def test_run_gives_output_and_exit_code(bundle: Bundle) -> None:
    done = bundle.shell("echo hello; exit 7")
    assert (done.stdout, done.returncode) == ("hello\n", 7)


def test_signal_gives_128_plus_n(bundle: Bundle) -> None:
    # process 1 of a pid namespace ignores its own signals, so its child tells
    assert bundle.shell("sh -c 'kill -TERM $$'; exit $?").returncode == 143


def test_what_the_starter_ignores_the_program_does_not(bundle: Bundle) -> None:
    bundle.start_ignoring_signals()
    done = bundle.shell("grep SigIgn /proc/self/status; exit 7")
    assert (ignored_signals(done.stdout), done.returncode) == (0, 7)


def test_states_follow_each_other(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    assert bundle.status() == "created"
    bundle.verb("start", bundle.id, check=True)
    assert bundle.status() == "running"
    bundle.verb("pause", bundle.id, check=True)
    assert bundle.status() == "paused"
    bundle.verb("resume", bundle.id, check=True)
    bundle.verb("kill", bundle.id, "KILL", check=True)
    wait_for(bundle, "stopped")
    bundle.verb("delete", bundle.id, check=True)
    assert bundle.verb("state", bundle.id).returncode != 0


def test_state_has_the_specified_fields(bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example": "x"}
    bundle.create("true")
    state = bundle.state_document()
    assert {key: state[key] for key in ("id", "status", "bundle", "annotations")} == {
        "id": bundle.id,
        "status": "created",
        "bundle": str(bundle.directory),
        "annotations": {"org.example": "x"},
    }
    assert state["pid"] > 0
    assert state["ociVersion"]


def test_delete_of_a_running_container_needs_force(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    bundle.verb("start", bundle.id, check=True)
    assert bundle.verb("delete", bundle.id).returncode != 0
    bundle.verb("delete", "--force", bundle.id, check=True)


@pytest.mark.parametrize("verb", ["start", "state", "kill", "delete"])
def test_verb_on_an_unknown_id_fails(bundle: Bundle, verb: str) -> None:
    done = bundle.verb(verb, "nobody")
    assert done.returncode != 0
    assert "nobody" in done.stderr or "not exist" in done.stderr


def test_kill_of_what_has_ended_is_told_as_engines_read_it(bundle: Bundle) -> None:
    """containerd deletes a container that has just ended by killing it first: any other word for "nothing runs there" is a failure to it."""
    bundle.create("true")
    bundle.verb("start", bundle.id, check=True)
    wait_for(bundle, "stopped")
    done = bundle.verb("kill", bundle.id, "KILL")
    assert done.returncode != 0
    assert "container not running" in done.stderr
    done = bundle.verb("kill", "--all", bundle.id, "KILL")
    assert done.returncode == 0 or "container not running" in done.stderr


def test_second_create_of_an_id_fails_and_leaves_the_first(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    assert bundle.verb("create", "--bundle", str(bundle.directory), bundle.id).returncode != 0
    assert bundle.status() == "created"


def test_start_twice_fails(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    bundle.verb("start", bundle.id, check=True)
    assert bundle.verb("start", bundle.id).returncode != 0


def test_missing_program_fails_at_create(bundle: Bundle) -> None:
    done = bundle.run("/no/such/program")
    assert done.returncode != 0
    assert "no such file" in done.stderr.lower()


def test_exec_joins_all_namespaces(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    bundle.verb("start", bundle.id, check=True)
    done = bundle.verb("exec", bundle.id, "sh", "-c", "for n in pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n /proc/1/ns/$n; done; exit 9")
    lines = done.stdout.split()
    assert lines[::2] == lines[1::2]
    assert done.returncode == 9


def test_exec_takes_user_environment_and_directory(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    bundle.verb("start", bundle.id, check=True)
    done = bundle.verb("exec", "--user", "1000:1000", "--env", "A=b", "--cwd", "/tmp", bundle.id, "sh", "-c", "id -u; id -g; echo $A; pwd")
    assert done.stdout.split() == ["1000", "1000", "b", "/tmp"]


def test_ps_lists_the_processes(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    bundle.verb("start", bundle.id, check=True)
    pids = json.loads(bundle.verb("ps", "--format", "json", bundle.id, check=True).stdout)
    assert pids == [bundle.state_document()["pid"]]


def test_pid_file_holds_the_pid(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["process"]["args"] = ["sleep", "100"]
    bundle.write()
    pid_file = tmp_path / "pid"
    bundle.verb("create", "--bundle", str(bundle.directory), "--pid-file", str(pid_file), bundle.id, check=True)
    assert int(pid_file.read_text()) == bundle.state_document()["pid"]


def test_limits_reach_the_cgroup_and_update_changes_them(bundle: Bundle) -> None:
    bundle.config["linux"]["resources"]["pids"] = {"limit": 11}
    bundle.create("sleep", "100")
    found = list(Path("/sys/fs/cgroup").glob(f"**/casemate-test/{bundle.id}/pids.max"))
    assert [path.read_text().strip() for path in found] == ["11"]
    bundle.verb("update", "--pids-limit", "22", bundle.id, check=True)
    assert found[0].read_text().strip() == "22"


def test_hooks_run_in_order_with_the_state_on_stdin(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log"
    kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    script = "read state; echo $0 $state >> " + str(log)
    bundle.config["hooks"] = {kind: [{"path": "/bin/sh", "args": [kind, "-c", script, kind]}] for kind in kinds}
    bundle.run("true")
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == kinds
    assert all(json.loads(line.split(" ", 1)[1])["id"] == bundle.id for line in lines)


def test_failing_hook_fails_create_and_leaves_nothing(bundle: Bundle) -> None:
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    assert bundle.run("true").returncode != 0

"""What of a plan reaches a sentry: nothing that would run a program of the container's natively."""

from __future__ import annotations

from typing import Any

import pytest

from casemate.errors import HostError
from casemate.isolation.sentry import exec_plan, sentry_plan

# Operations that execute a file, or hand the process to code that does. `check_exec` only looks for one.
EXECUTING = {"exec", "agent"}
WHO = {"op": "credentials", "uid": 5, "gid": 6, "groups": [7], "umask": 0o77, "capabilities": {"bounding": ["CAP_KILL"]}}
PROGRAM = {"op": "exec", "args": ["x"], "env": ["A=b"]}
LIMIT = {"op": "rlimit", "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}


def plan(*ops: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "join": [{"kind": "pidfd", "fd": 9, "flags": -1}], "ops": list(ops)}


def names(made: dict[str, Any]) -> list[str]:
    return [op["op"] for op in made["ops"]]


def test_create_executes_nothing_but_the_sentry() -> None:
    made = sentry_plan(plan({"op": "setsid"}, LIMIT, WHO, {"op": "check_exec"}, {"op": "seccomp"}, PROGRAM))
    assert names(made) == ["setsid", "no_new_privs", "landlock", "zygote", "credentials", "check_exec", "sentry"]


def test_create_hands_the_limits_to_the_program_only() -> None:
    made = sentry_plan(plan(LIMIT, WHO, PROGRAM))
    assert made["ops"][-1]["rlimits"] == [["RLIMIT_NOFILE", 10, 20]]


def test_agent_is_a_program_of_the_sentry() -> None:
    made = sentry_plan(plan(WHO, {"op": "agent"}), agent_fd=7)
    assert EXECUTING.isdisjoint(names(made))
    assert (made["ops"][-1]["agent"], made["ops"][-1]["args"]) == (7, ["casemate-agent", "agent", "3"])


def test_hooks_that_are_programs_of_the_container_are_run_by_the_sentry() -> None:
    create, start = ({"op": "hook", "kind": kind, "path": "/x"} for kind in ("createContainer", "startContainer"))
    made = sentry_plan(plan(create, start, WHO, PROGRAM))
    assert [op["kind"] for op in made["ops"] if op["op"] == "hook"] == ["createContainer"]
    assert made["ops"][-1]["hooks"] == [{"kind": "startContainer", "path": "/x"}]


def test_exec_joins_no_namespace_and_executes_nothing() -> None:
    made = exec_plan(plan({"op": "become_root"}, {"op": "joined_root"}, LIMIT, {"op": "pty", "columns": 80, "rows": 25}, WHO, {"op": "check_exec"}, PROGRAM), 8)
    assert made["join"] == []
    assert names(made) == ["no_new_privs", "sentry_exec"]
    assert EXECUTING.isdisjoint(names(made))


def test_exec_hands_the_program_and_its_terminal_to_the_sentry() -> None:
    made = exec_plan(plan({"op": "pty", "columns": 80, "rows": 25}, {"op": "chdir", "path": "/tmp", "create": False}, WHO, PROGRAM), 8)
    request = made["ops"][-1]
    assert (request["control"], request["terminal"]) == (8, [80, 25])
    assert {key: request["program"][key] for key in ("args", "cwd", "uid", "groups")} == {"args": ["x"], "cwd": "/tmp", "uid": 5, "groups": [7]}


@pytest.mark.parametrize("ops", [(), (WHO,), (PROGRAM,), (WHO, {"op": "agent"})])
def test_exec_of_anything_else_is_refused(ops: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(HostError):
        exec_plan(plan(*ops), 8)

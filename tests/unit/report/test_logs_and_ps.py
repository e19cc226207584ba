"""`casemate ps` and `casemate logs` of a running sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle import CASEMATE

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="starts sandboxes as root")]


def casemate(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CASEMATE, "--root", str(state), *words], capture_output=True, text=True, timeout=30, check=False)


def rows(state: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(casemate(state, "ps", "--json").stdout)
    return found


@pytest.fixture
def state(state_root: Path) -> Iterator[Path]:
    """A state root with one sandbox that sleeps."""
    sandbox = subprocess.Popen([CASEMATE, "--root", str(state_root), "do", "--", "sleep", "61"])
    try:
        deadline = time.monotonic() + 10
        while not any(row["status"] == "running" for row in rows(state_root)):
            assert time.monotonic() < deadline, "the sandbox did not start"
            assert sandbox.poll() is None, "the sandbox has ended"
            time.sleep(0.02)
        yield state_root
    finally:
        for row in rows(state_root):
            casemate(state_root, "kill", row["id"], "KILL")
        sandbox.wait(10)


@pytest.fixture
def log(state: Path) -> Path:
    return state / rows(state)[0]["id"] / "log"


def test_row_of_a_running_sandbox(state: Path) -> None:
    row = rows(state)[0]
    row["pid"] = row["pid"] > 1
    row["memory"] = row["memory"] > 4096
    del row["id"], row["created"]
    expected = {"name": "", "isolation": "namespaces", "status": "running", "pid": True, "memory": True, "pids": 1, "command": ["sleep", "61"]}
    assert row == expected


def test_table_has_the_command(state: Path) -> None:
    heading, row = casemate(state, "ps").stdout.splitlines()
    assert heading.split()[-1] == "COMMAND"
    assert row.endswith("sleep 61")


def test_one_containers_processes_stay_as_runc_has_them(state: Path) -> None:
    row = rows(state)[0]
    assert json.loads(casemate(state, "ps", "--format", "json", row["id"]).stdout) == [row["pid"]]


def test_a_damaged_state_hides_no_other_container(state: Path) -> None:
    (state / "broken").mkdir()
    (state / "broken" / "state.json").write_text("{")
    assert "running" in {row["status"] for row in rows(state)}


def test_no_containers(tmp_path: Path) -> None:
    assert casemate(tmp_path, "ps", "--format=json").stdout == "[]\n"


def test_container_without_a_log(state: Path, log: Path) -> None:
    done = casemate(state, "logs", log.parent.name)
    assert done.returncode == 1
    assert "keeps no log" in done.stderr


@pytest.mark.parametrize(("count", "expected"), [("0", ""), ("1", "three"), ("2", "two\nthree"), ("9", "one\ntwo\nthree")])
def test_tail(state: Path, log: Path, count: str, expected: str) -> None:
    log.write_text("one\ntwo\nthree")
    assert casemate(state, "logs", "--tail", count, log.parent.name).stdout == expected


def test_tail_beyond_one_block(state: Path, log: Path) -> None:
    lines = [f"line {number}\n" for number in range(50_000)]
    log.write_text("".join(lines))
    assert casemate(state, "logs", "--tail", "20000", log.parent.name).stdout == "".join(lines[-20_000:])


def test_follow_ends_with_the_container(state: Path, log: Path) -> None:
    log.write_text("before\n")
    words = [CASEMATE, "--root", str(state), "logs", "--follow", log.parent.name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "before\n"
        with log.open("a") as file:
            file.write("after\n")
        assert follower.stdout.readline() == "after\n"
        casemate(state, "kill", log.parent.name, "KILL")
        assert follower.communicate(timeout=10) == ("", None)


def test_a_link_in_place_of_the_log_is_not_followed(state: Path, log: Path) -> None:
    log.symlink_to("/etc/hostname")
    assert casemate(state, "logs", log.parent.name).stdout == ""

"""The debugging aids of the sentry: `--strace`, `events --syscalls`, `debug`. What a program chose is shown escaped and bounded."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle import CASEMATE, Bundle, leftovers

DEADLINE_S = 10
_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6} \[\d+(/\d+)?\] (--- .* ---|\+\+\+ .* \+\+\+|(\.\.\. )?\w+\(.*\) = .*)|--- .* ---")


@pytest.fixture
def sentry(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {"dev.casemate.isolation": "sentry"}
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def trace(log: Path, *options: str, command: list[str]) -> str:
    """What `do --strace` writes to a file, each line of it in the shape that it should have."""
    done = subprocess.run(
        [CASEMATE, "do", "--isolation", "sentry", "--strace", "--strace-log", str(log), *options, "--", *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return log.read_text(encoding="ascii")


def start(bundle: Bundle, script: str) -> None:
    bundle.create("sh", "-c", script)
    bundle.verb("start", bundle.id, check=True)


def debug(bundle: Bundle, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(bundle.verb("debug", "--json", *options, bundle.id, check=True).stdout)
    return report


def waiting(bundle: Bundle, call: str) -> dict[str, Any]:
    """The thread that waits in this call, once there is one."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        tasks = debug(bundle, "--tasks")["tasks"]
        found = [task for task in tasks if task["state"] == "waiting" and re.match(call, task["call"])]
        if found:
            return dict(found[0])
        assert time.monotonic() < deadline, tasks


def test_calls_are_shown_with_decoded_arguments_and_results(tmp_path: Path) -> None:
    script = "cd /; echo hello > /tmp/out; cat /tmp/out /nope 2>/dev/null; sleep 0.05; kill -USR1 $$ 2>/dev/null; trap '' USR1; exit 0"
    text = trace(tmp_path / "log", command=["sh", "-c", f"trap : USR1; {script}"])

    assert [line for line in text.splitlines() if not _LINE.fullmatch(line)] == []
    assert text.startswith("--- not shown, since the host answers them: futex mmap")
    assert re.search(r'openat\(AT_FDCWD, "/tmp/out", O_WRONLY\|O_CREAT\|O_TRUNC, 0666\) = \d+ <0\.\d{6}>', text)
    assert 'write(1, "hello\\n", 6) = 6' in text
    assert re.search(r'read\(3, "hello\\n", \d+\) = 6', text)
    assert re.search(r'"/nope".*= -1 ENOENT \(No such file or directory\)', text)
    assert re.search(r"nanosleep\(.*nsec=50000000}, .*\) = \.\.\. waits", text)
    assert re.search(r"\.\.\. \w*nanosleep\(.*\) = 0 <0\.[0-9]{6}>", text)
    assert re.search(r"wait4\(-1, \[exited with 1\], .*\) = \d+", text)
    assert "--- SIGUSR1 ---" in text
    assert "+++ exited with 0 +++" in text


def test_a_program_forges_no_line_and_none_is_endless(tmp_path: Path) -> None:
    program = r"""
import os
for name in ("a\n12:00:00.000000 [1] forged() = 0", "\x1b[2J", "\udcff\udcfe", "x" * 5000):
    try:
        os.open(name, os.O_RDONLY)
    except OSError:
        pass
os.write(os.open("/dev/null", os.O_WRONLY), b"y" * 100000)
"""
    text = trace(tmp_path / "log", "--strace-calls", "openat,write", command=["python3", "-I", "-S", "-c", program])

    assert [line for line in text.splitlines() if not _LINE.fullmatch(line)] == []
    assert '"a\\n12:00:00.000000 [1] forged() = 0"' in text
    assert '"\\x1b[2J"' in text
    assert '"\\xff\\xfe"' in text
    assert max(map(len, text.splitlines())) < 1000
    assert re.search(r'write\(\d+, "y{64}"\.\.\., 100000\) = 100000', text)


def test_json_lines_have_the_calls_that_were_asked_for(tmp_path: Path) -> None:
    text = trace(tmp_path / "log", "--strace-format", "json", "--strace-calls", "openat,exit_group", command=["cat", "/etc/hostname"])
    first, *calls = [json.loads(line) for line in text.splitlines()]

    assert "futex" in first["unseen"]
    assert {call["call"] for call in calls if "call" in call} == {"openat", "exit_group"}
    opened = next(call for call in calls if call.get("arguments", {}).get("path") == '"/etc/hostname"')
    assert opened["arguments"] == {"directory": "AT_FDCWD", "path": '"/etc/hostname"', "flags": "O_RDONLY", "mode": "0"}
    assert opened["result"] >= 3
    assert opened["seconds"] >= 0


def test_served_calls_are_shown_too(tmp_path: Path) -> None:
    """Calls that are answered without a notification otherwise: the fast path is off."""
    program = "import os\nfor _ in range(3000): os.getuid(); os.stat('/')"
    text = trace(tmp_path / "log", "--strace-calls", "getuid,stat,newfstatat", command=["python3", "-I", "-S", "-c", program])
    assert len(re.findall(r"\] getuid\(\) = 0", text)) >= 3000
    assert len(re.findall(r'\] (new)?f?stat(at)?\(.*"/", \{ino=', text)) >= 3000


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--isolation", "namespaces", "--strace"], "does not see system calls"),
        (["--isolation", "sentry", "--strace", "--strace-calls", "opneat"], 'there is no call "opneat"'),
        (["--isolation", "sentry", "--strace", "--strace-format", "xml"], "--strace-format: expected text or json"),
        (["--isolation", "sentry", "--strace-log", "/tmp/x"], "--strace-log goes with --strace"),
        (["--isolation", "sentry", "--strace", "--strace-log", "/nope/x"], "--strace-log: No such file or directory '/nope/x'"),
        (["--isolation", "sentry", "--strace", "--tty"], "--strace with --tty needs --strace-log"),
    ],
)
def test_wrong_options_are_told(options: list[str], error: str) -> None:
    done = subprocess.run([CASEMATE, "do", *options, "--", "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125
    assert error in done.stderr


def test_an_annotation_traces_on_standard_error_and_names_no_file(sentry: Bundle) -> None:
    sentry.config["annotations"]["dev.casemate.strace"] = "json"
    done = sentry.shell("echo hi")
    assert done.stdout == "hi\n"
    calls = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(call.get("call") == "write" and call["arguments"]["buf"] == '"hi\\n"' for call in calls)
    sentry.config["annotations"]["dev.casemate.strace"] = "/etc/passwd"
    assert "expected true, text, json or false" in sentry.shell("true").stderr


def test_global_options_trace_a_container(sentry: Bundle) -> None:
    log = sentry.directory / "log"
    sentry.config["process"]["args"] = ["true"]
    sentry.write()
    sentry.verb("--strace", "--strace-log", str(log), "run", "--bundle", str(sentry.directory), sentry.id, check=True)
    assert "exit_group(0)" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_calls_are_counted_and_missing_ones_named(sentry: Bundle) -> None:
    # futimesat is there; 205 is set_thread_area, which 64-bit programs have not.
    start(sentry, "stat /nope; stat /nope2; exec sleep 100")
    waiting(sentry, r"(clock_)?nanosleep\(")
    first = json.loads(sentry.verb("events", "--syscalls", "--json", sentry.id, check=True).stdout)
    calls = {row["name"]: row for row in first["calls"]}
    assert calls["execve"]["calls"] >= 1
    assert calls["execve"]["time_ns"] == 0
    assert sum(row["errors"] for row in first["calls"] if "stat" in row["name"]) >= 2
    assert "futex" in first["unseen"]
    sentry.verb("exec", sentry.id, "true", check=True)
    second = json.loads(sentry.verb("events", "--syscalls", "--json", sentry.id, check=True).stdout)
    timed = [row for row in second["calls"] if row["timed"]]
    assert timed
    assert all(row["time_ns"] > 0 for row in timed)
    table = sentry.verb("events", "--syscalls", sentry.id, check=True).stdout
    assert re.search(r"^execve +\d+", table, re.MULTILINE)


def test_calls_that_are_not_there_are_named(tmp_path: Path) -> None:
    program = "import ctypes, time\nc = ctypes.CDLL(None)\nfor nr in (205, 205, 435, 9999): c.syscall(nr, 0)\nprint('made', flush=True)\ntime.sleep(100)"
    name = f"t{tmp_path.name[-20:]}-{time.monotonic_ns()}"
    command = [CASEMATE, "do", "--isolation", "sentry", "--detach", "--name", name, "--", "python3", "-c", program]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while subprocess.run([CASEMATE, "logs", name], capture_output=True, text=True, check=True, timeout=30).stdout != "made\n":
            assert time.monotonic() < deadline
        shown = subprocess.run([CASEMATE, "events", "--syscalls", name], capture_output=True, text=True, check=True, timeout=30).stdout
    finally:
        subprocess.run([CASEMATE, "delete", "--force", name], check=True, timeout=30)
    assert re.search(r"^set_thread_area +2 +2 +2", shown, re.MULTILINE)
    assert "Not there (ENOSYS): set_thread_area syscall_9999" in shown


def test_tasks_files_and_mappings_are_told(sentry: Bundle) -> None:
    start(sentry, "busybox mkfifo /tmp/f; exec 5<>/tmp/f; exec cat <&5")
    task = waiting(sentry, r"read\(")
    assert (task["pid"], task["name"], task["channel"]) == (1, "cat", "/tmp/f")
    report = debug(sentry)
    assert not report["is_stuck"]
    assert {"casemate-sentry", "control", "worker"} <= {thread["name"] for thread in report["threads"]}
    file = next(file for file in report["files"] if file["fd"] == 5)
    assert (file["pid"], file["name"]) == (1, "/tmp/f")
    assert "O_RDWR" in file["flags"]
    mappings = [mapping for mapping in report["mappings"] if mapping["name"] == "/bin/busybox"]
    assert any("x" in mapping["permissions"] for mapping in mappings)
    assert all(mapping["start"] < mapping["end"] for mapping in mappings)


def test_stacks_of_its_own_threads_are_told(sentry: Bundle) -> None:
    start(sentry, "exec sleep 100")
    waiting(sentry, r"(clock_)?nanosleep\(")
    deadline = time.monotonic() + DEADLINE_S
    while True:
        threads = {thread["name"]: thread for thread in debug(sentry, "--threads")["threads"]}
        # One that gets no processor for 2 s does not answer.
        if all(thread["stack"] for thread in threads.values()) or time.monotonic() > deadline:
            break
    for name, thread in threads.items():
        assert len(thread["stack"]) > 2, name
        assert all(re.fullmatch(r".+\+0x[0-9a-f]+", frame) for frame in thread["stack"]), thread
        # What more can be told is the optimiser's: it puts functions into others.
        assert any("casemate_sentry::" in frame for frame in thread["stack"]), thread
    table = sentry.verb("debug", sentry.id, check=True).stdout
    assert f"stack of {threads['worker']['tid']}, worker:\n    " in table


def test_who_is_asked_for_a_stack_goes_on_with_its_work(sentry: Bundle) -> None:
    start(sentry, "busybox dd if=/dev/zero of=/tmp/f bs=1 count=4000 2>/dev/null && exec sleep 100")
    # Asks all threads each time. A call that failed meanwhile would end the container.
    waiting(sentry, r"(clock_)?nanosleep\(")


def test_a_clock_and_a_child_are_waited_for(sentry: Bundle) -> None:
    start(sentry, "sleep 100; true")
    task = waiting(sentry, r"(clock_)?nanosleep\(")
    assert task["channel"] == "time"
    assert 80_000 < task["left_ms"] <= 100_000
    assert waiting(sentry, r"wait4\(")["channel"] == "a child"
    table = sentry.verb("debug", sentry.id, check=True).stdout
    assert [line.split()[0] for line in table.splitlines() if line[:1].isupper() and "(" in line] == ["TASKS", "THREADS", "FILES", "MAPPINGS"]


def test_of_a_paused_container_is_told_what_the_host_knows(sentry: Bundle) -> None:
    start(sentry, "sleep 100; true")
    waiting(sentry, r"(clock_)?nanosleep\(")
    waiting(sentry, r"wait4\(")
    sentry.verb("pause", sentry.id, check=True)
    report = debug(sentry)
    table = sentry.verb("debug", sentry.id, check=True).stdout
    stats = sentry.verb("events", "--stats", sentry.id, check=True).stdout
    counts = sentry.verb("events", "--syscalls", sentry.id)
    sentry.verb("resume", sentry.id, check=True)
    assert report["is_paused"]
    calls = {(task["pid"], task["ppid"]): task["call"] for task in report["tasks"]}
    assert calls[1, 0] == "wait4"
    assert [call for (_, parent), call in calls.items() if parent == 1] in (["nanosleep"], ["clock_nanosleep"])
    assert {"control", "worker"} <= {thread["name"] for thread in report["threads"]}
    assert table.startswith("The container is paused")
    assert json.loads(stats)["type"] == "stats"
    # Only the sentry has counted, and it answers nobody.
    assert counts.returncode == 1
    assert "paused" in counts.stderr
    assert not debug(sentry)["is_paused"]


def test_other_isolations_say_that_they_cannot(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, "casemate")
    try:
        start(bundle, "sleep 100")
        for verb in (["debug"], ["events", "--syscalls"]):
            done = bundle.verb(*verb, bundle.id)
            assert done.returncode == 1
            assert "does not see system calls" in done.stderr
    finally:
        bundle.close()


def test_random_calls_are_shown_whole(tmp_path: Path) -> None:
    """Whatever numbers, flags and pointers a program makes up, each line is JSON of printable ASCII, and the sandbox lives."""
    source = Path(__file__).parents[1] / "syscalls/random_calls.c"
    subprocess.run(["gcc", "-static", "-O1", "-w", "-o", tmp_path / "calls", source], check=True)
    tmp_path.chmod(0o755)
    options = ["--strace-format", "json", "--strace-size", "4096", "--bind", f"{tmp_path}:/t:ro"]
    text = trace(tmp_path / "log", *options, command=["sh", "-c", "/t/calls 7 12; exit $?"])
    lines = text.splitlines()
    assert len(lines) > 300
    assert all(line.isprintable() for line in lines)
    assert len({json.loads(line).get("call") for line in lines}) > 100

"""Limits as the programs of a sentry see and meet them: the sandbox's own, not the machine's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE, Bundle, leftovers

MIB = 1 << 20


def do(*options: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CASEMATE, "do", "--isolation", "sentry", *options, "--", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def sentry(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {"dev.casemate.isolation": "sentry"}
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def test_memory_is_the_sandboxs() -> None:
    script = "grep -E '^Mem(Total|Free)' /proc/meminfo; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.current"
    done = do("--memory", "96M", script=script)
    assert (done.returncode, done.stderr) == (0, "")
    total, free, limit, used = (int("".join(filter(str.isdigit, line))) for line in done.stdout.splitlines())
    assert (total * 1024, limit) == (96 * MIB, 96 * MIB)
    assert 0 < used < limit
    assert free < total


@pytest.mark.parametrize(("cpus", "seen"), [("1", 1), ("0.5", 1)])
def test_processors_are_the_quotas(cpus: str, seen: int) -> None:
    script = (
        "nproc; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; python3 -c 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'"
    )
    done = do("--cpus", cpus, script=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(seen)] * 5


def test_processes_are_limited_and_told() -> None:
    assert do("--pids", "40", script="cat /sys/fs/cgroup/pids.max").stdout == "40\n"


def test_out_of_memory_ends_the_program_and_is_told() -> None:
    done = do("--memory", "64M", script="exec python3 -c 'bytearray(10**9)'")
    assert done.returncode == 137
    assert "out of memory: the limit of 64M was reached" in done.stderr


def test_allocating_beyond_the_memory_limit_ends_the_program_alone() -> None:
    allocate = "import os; fd = os.open('/dev/shm/large', os.O_RDWR | os.O_CREAT); print('small', flush=True); os.posix_fallocate(fd, 0, 1 << 30)"
    script = f"""sleep 1000 & other=$!; python3 -S -c "{allocate}"; echo ended $?; kill -0 $other && echo other; stat -c %s /dev/shm/large; kill $other"""
    done = do("--memory", "64M", script=script)
    assert done.stdout.split() == ["small", "ended", "137", "other", "0"], done.stderr


def test_out_of_memory_of_a_child_leaves_the_others() -> None:
    done = do("--memory", "64M", script="python3 -c 'bytearray(10**9)'; echo $?; echo lives")
    assert (done.stdout.split(), done.returncode) == (["137", "lives"], 0)


def test_a_raised_score_decides_who_is_killed() -> None:
    """The child is the smaller one, and offered itself: Linux kills it and not its parent."""
    program = r"""
import os
held = b"x" * (60 << 20)
pid = os.fork()
if pid == 0:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    more = []
    while True:
        more.append(b"y" * (1 << 20))
print(os.waitpid(pid, 0)[1], len(held) >> 20, open("/proc/self/oom_score_adj").read().strip())
"""
    done = do("--memory", "96M", script=f"exec python3 -I -S -c '{program}'")
    assert (done.stdout, done.returncode) == ("9 60 0\n", 0), done.stderr


def test_a_changed_limit_is_seen(sentry: Bundle) -> None:
    sentry.config["linux"]["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}
    sentry.create("sleep", "100")
    sentry.verb("start", sentry.id, check=True)
    show = ("exec", sentry.id, "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max")
    assert sentry.verb(*show, check=True).stdout.split() == [str(64 * MIB), "50"]
    sentry.verb("update", "--memory", str(80 * MIB), "--pids-limit", "60", sentry.id, check=True)
    assert sentry.verb(*show, check=True).stdout.split() == [str(80 * MIB), "60"]


def test_a_text_of_proc_is_copied_to_a_file(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as file:
        subprocess.run([CASEMATE, "do", "--isolation", "sentry", "--", "cat", "/proc/uptime"], stdout=file, check=True, timeout=60)
    assert len(output.read_text().split()) == 2

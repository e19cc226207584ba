"""ptrace(2): requests, stops, events, single steps, as on the host; strace and gdb."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "ptrace"
CASEMATE = HERE.parents[2] / ".venv/bin/casemate"
LIMIT_S = 60
GDB = "gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'set startup-with-shell off'"
TOOLS = {
    "strace": "strace -f -e trace=execve,exit_group,write -e signal=none -o log ./debugged; cut -d ' ' -f 2- log | sort",
    "strace-counts": "strace -c -o log cat word; awk '/ (read|write|openat|close)$/ {print $4, $NF}' log | sort",
    "gdb-breakpoints": f"{GDB} -ex 'break twice' -ex run -ex bt -ex finish -ex 'print own' -ex 'delete' -ex continue ./debugged",
    "gdb-steps": f"{GDB} -ex 'break main' -ex run -ex next -ex step -ex 'print values' -ex 'set var values[0] = 40' -ex stepi -ex 'kill' ./debugged",
    "gdb-abort": f"{GDB} -ex run -ex bt -ex 'print $_siginfo.si_signo' --args ./debugged abort",
}
SOURCE = """#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
__thread int own = 5;
__attribute__((noinline)) int twice(int value) { int result = value * 2; return result; }
static void *work(void *argument) { own = *(int *)argument; return (void *)(long)twice(own); }
int main(int argc, char **argv) {
    pthread_t thread; int values[2] = {3, 4}; void *got; (void)argv;
    pthread_create(&thread, 0, work, values); pthread_join(thread, &got);
    printf("got %ld\\n", (long)got); fflush(stdout);
    if (system("true") || argc > 1) abort();
    return 3;
}
"""


@pytest.mark.parametrize("program", [program for program in sorted(HERE.glob("*.c")) if program.stem != "rights"], ids=lambda program: program.stem)
def test_as_on_the_host(program: Path, same: Callable[..., str]) -> None:
    said = same(program)
    assert "line " not in said


def test_who_may_trace_whom(same_in_container: Callable[[str], None]) -> None:
    same_in_container("ptrace/rights.c")


def test_children_of_a_seized_thread(same: Callable[..., str]) -> None:
    assert "event 3" in same(HERE / "follow.c", "seizes")


@pytest.mark.parametrize("tool", TOOLS)
def test_strace_and_gdb_say_what_they_say_on_the_host(tool: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "word").write_text("word\n")
    (tmp_path / "debugged.c").write_text(SOURCE)
    subprocess.run(["gcc", "-g", "-O0", "-pthread", "-no-pie", "-o", tmp_path / "debugged", "debugged.c"], cwd=tmp_path, check=True)
    command = ["env", "-i", "PATH=/usr/bin:/bin", "sh", "-c", f"{TOOLS[tool]} 2>&1"]
    said = []
    for way in ([], [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:{tmp_path}", "--workdir", str(tmp_path), "--"]):
        done = subprocess.run([*way, *command], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        said.append((_plain(done.stdout), done.returncode))
    assert said[1] == said[0]
    assert len(said[0][0]) > 1


def _plain(text: str) -> list[str]:
    """Without addresses and numbers of processes, which are not the same twice; nor others, then. When a thread's end is seen is no order either."""
    plain = [re.sub(r"0x[0-9a-f]+|\d+", "N", line) for line in text.splitlines()]
    return sorted(" ".join(line.split()) for line in plain)

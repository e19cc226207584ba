"""The fast path: what programs see is what they see on the host, whether a call site is patched or not, a server spins or not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "fast"
CASEMATE = HERE.parents[2] / ".venv/bin/casemate"
LIMIT_S = 120


PROGRAMS = sorted(path for path in HERE.glob("*.c") if path.stem not in ("born", "ids", "patched", "placed"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_as_on_the_host(program: Path, same: Callable[..., str]) -> None:
    same(program)


def test_ids_that_change(same_in_container: Callable[[str], None]) -> None:
    same_in_container("fast/ids.c")


def test_a_hot_site_is_patched_by_one_byte(tmp_path: Path) -> None:
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-pthread", "-o", tmp_path / "patched", HERE / "patched.c"], check=True)
    command = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "/t/patched"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout.splitlines() == ["before 0f 05", "after e9 05", "low 67 e9", "child e9 05", "alone 0f 05", "hidden"], done.stderr[-2000:]


def test_whoever_was_kept_off_the_server_s_processor_may_run_everywhere_in_the_end(tmp_path: Path) -> None:
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-o", tmp_path / "placed", HERE / "placed.c"], check=True)
    command = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "/t/placed"]
    own = os.sched_getaffinity(0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "done\n"
        deadline = time.monotonic() + LIMIT_S
        # The server's last session may be a millisecond from its end.
        while any(affinity != own for affinity in _affinities(running.pid).values()):
            assert time.monotonic() < deadline, _affinities(running.pid)
        assert len(_programs(running.pid)) >= 10
        assert running.stdin
        running.stdin.close()
        assert running.wait(LIMIT_S) == 0


def test_who_is_held_beside_its_creator_may_run_everywhere_in_the_end(tmp_path: Path) -> None:
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-o", tmp_path / "born", HERE / "born.c"], check=True)
    (tmp_path / "shared").write_bytes(bytes(4096))
    command = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "/t/born", "/t/shared"]
    own = os.sched_getaffinity(0)
    with (tmp_path / "shared").open("r+b", buffering=0) as shared, subprocess.Popen(command, stdin=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + LIMIT_S
        try:
            while os.pread(shared.fileno(), 1, 1) == b"\0" or any(affinity != own for affinity in _affinities(running.pid).values()):
                assert time.monotonic() < deadline, _affinities(running.pid)
            assert len(_affinities(running.pid)) >= 2
        finally:
            shared.write(b"\1")
        assert running.wait(LIMIT_S) == 0


def _affinities(ancestor: int) -> dict[int, set[int]]:
    found = {}
    for program in _programs(ancestor):
        with contextlib.suppress(ProcessLookupError):
            found[program] = os.sched_getaffinity(program)
    return found


def _programs(ancestor: int) -> list[int]:
    """Native processes of the sandbox's programs: they have the loader as their file."""
    try:
        children = [int(pid) for task in Path(f"/proc/{ancestor}/task").iterdir() for pid in (task / "children").read_text().split()]
        own = [ancestor] if Path(f"/proc/{ancestor}/comm").read_text().startswith("memfd:") else []
    except OSError:
        # One of those that start the sandbox has ended.
        return []
    return own + [program for child in children for program in _programs(child)]


def test_threads_that_take_turns_have_a_line_until_somebody_looks(tmp_path: Path) -> None:
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-pthread", "-o", tmp_path / "lines", HERE / "lines.c"], check=True)
    command = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "/t/lines", "use"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout == "pipe: open cut socket: open cut", done.stderr[-2000:]


def test_files_are_lent_until_somebody_looks(tmp_path: Path) -> None:
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-pthread", "-o", tmp_path / "lent", HERE / "lent.c"], check=True)
    command = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "/t/lent", "use"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    ends = [
        "looked at: writes 0 reads 1",
        "opened by somebody else: writes 0 reads 0",
        "sought 1",
        "read: sought 0",
        "mapped 1",
        "in a child: mapped 0",
        "closed: mapped 0",
        "room again 1",
    ]
    assert done.stdout.splitlines() == ["on the root", "writes 0 reads 1", *ends, "in memory", "writes 1 reads 1", *ends], done.stderr[-2000:]


@pytest.mark.parametrize("what", ["channel", "table", "stub", "trampolines", "code", "unmap"])
def test_a_hostile_program_harms_itself_alone(what: str, tmp_path: Path) -> None:
    for name in ("hostile", "witness"):
        source = HERE / "escape" / f"{name}.c"
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-pthread", f"-I{HERE}", "-o", tmp_path / name, source], check=True)
    script = f"/t/witness & for seed in 1 2 3 4 5 6; do /t/hostile {what} $seed & done; wait $!; wait; echo survived"
    command = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "sh", "-c", script]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout.splitlines()[-1:] == ["survived"], done.stderr[-2000:]
    assert "witness ok" in done.stdout, done.stdout
    assert "panic" not in done.stderr, done.stderr[-2000:]
    assert "refused call" not in done.stderr, done.stderr[-2000:]

"""/proc, /sys, and the calls that ask about the machine, limits and scheduling."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CASEMATE = Path(__file__).parents[2] / ".venv" / "bin" / "casemate"


@pytest.mark.parametrize("name", ["calls.c", "process_memory.c", "files.py", "descriptors.sh", "threads.py", "title.c"])
def test_program_says_in_the_sentry_what_it_says_on_the_host(same: Callable[..., str], name: str) -> None:
    assert same(HERE / "proc" / name)


def _inside(*command: str) -> str:
    done = subprocess.run([_CASEMATE, "do", "--isolation", "sentry", "--", *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["ps aux", "top -b -n1", "free", "uptime", "nproc", "lscpu", "mount", "df", "pgrep bash"])
def test_tool_works(command: str) -> None:
    assert _inside("bash", "-c", f"{command}; exit $?")


def test_processes_are_the_sandboxs_alone() -> None:
    assert _inside("bash", "-c", "cd /proc && echo [0-9]*").split() == ["1"]


def test_maps_hide_the_loader() -> None:
    maps = _inside("cat", "/proc/self/maps")
    assert "500000000000" not in maps
    assert "/cat" in maps


def test_mounts_tell_nothing_of_the_hosts_layers() -> None:
    assert "lowerdir" not in _inside("cat", "/proc/mounts", "/proc/self/mountinfo")


def test_sys_is_read_only() -> None:
    code = "try: open('/proc/sys/kernel/hostname','w')\nexcept OSError as e: print(e.errno)\n"
    code += "try: open('/sys/devices/system/cpu/online','w')\nexcept OSError as e: print(e.errno)"
    assert set(_inside("python3", "-c", code).split()) <= {"30", "13"}

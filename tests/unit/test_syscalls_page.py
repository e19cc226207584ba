"""docs/compat/syscalls.md is what the sentry's table and the filter say."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "syscalls-page"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    module = ModuleType("syscalls_page")
    module.__file__ = str(SCRIPT)
    exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), module.__dict__)
    return module


def test_page_is_fresh() -> None:
    done = subprocess.run([SCRIPT, "--check"], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


def test_rows_are_read(script: ModuleType) -> None:
    rows = script.read_rows(
        'syscalls! {\n    3 close(fd: i32) => descriptors, Full;\n    1 write() => x, Partial("no; a|b");\n    2 bpf() => refused, Partial("EPERM");\n}\n'
    )

    assert [str(row) for row in rows] == [
        "| 1 | write | x | partly: no; a\\|b |",
        "| 2 | bpf | refused | refused: EPERM |",
        "| 3 | close | descriptors | full |",
    ]


@pytest.mark.parametrize("source", ["", "syscalls! {\n    1 write(fd: i32) => x, Half;\n}\n", "syscalls! {\n    write() => x, Full;\n}\n"])
def test_what_is_no_row_is_an_error(script: ModuleType, source: str) -> None:
    with pytest.raises(ValueError, match=r"row|block"):
        script.read_rows(source)


def test_native_calls_are_read(script: ModuleType) -> None:
    assert script.read_native('native(libc::SYS_brk, "brk", "own"),\n..native(\n  libc::SYS_futex,\n  "futex",') == ["brk", "futex"]
    with pytest.raises(ValueError, match="1 of 2"):
        script.read_native('native(libc::SYS_brk, "brk", "own"), native(libc::SYS_futex, NAME, "own")')

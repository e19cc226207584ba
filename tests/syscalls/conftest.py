"""Each program runs on the host and in the sentry, and must tell the same both times."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CASEMATE = HERE.parents[1] / ".venv/bin/casemate"
LIMIT_S = 60


def _run(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], Path]:
    """Compiles a program of this directory, without a library to load."""

    def compile_program(source: str) -> Path:
        program = tmp_path / Path(source).stem
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wno-unused-result", "-o", program, HERE / source, "-lpthread"], check=True)
        return program

    return compile_program


@pytest.fixture
def same_in_sentry(compiled: Callable[[str], Path]) -> Callable[[str], None]:
    """Asserts that a C program of this directory has the same output and exit code on the host and in the sentry."""

    def check(source: str) -> None:
        program = compiled(source)
        native = _run([str(program)])
        sandboxed = _run([str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{program.parent}:/t", "--", f"/t/{program.name}"])
        assert sandboxed == native

    return check

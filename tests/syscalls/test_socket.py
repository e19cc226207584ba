"""Sockets and what moves data: the same on the host and in the sentry."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASEMATE = HERE.parents[1] / ".venv/bin/casemate"
PROGRAMS = sorted((HERE / "socket").glob("*.[cp]*"))


def _prepare(source: Path, place: Path) -> list[str]:
    if source.suffix == ".py":
        (place / source.name).write_bytes(source.read_bytes())
        return ["/usr/bin/python3", f"./{source.name}"]
    subprocess.run(["gcc", "-static", "-O1", "-o", place / source.stem, source, "-lpthread"], check=True)
    return [f"./{source.stem}"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_socket_program_behaves_as_on_the_host(program: Path, tmp_path: Path) -> None:
    command = _prepare(program, tmp_path)
    native = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    sentry = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--workdir", "/t", "--", *command]
    served = subprocess.run(sentry, capture_output=True, text=True, timeout=60, check=False)
    assert (served.stdout, served.returncode) == (native.stdout, native.returncode), served.stderr[-2000:]

"""Files and identity: answers and side effects equal the host's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CASEMATE = HERE.parents[1] / ".venv/bin/casemate"


@pytest.mark.parametrize("program", ["aio", "aio_poll", "async", "busy", "locks", "filters", "listing", "login"])
def test_program_tells_the_same_in_the_sentry(program: str, same_in_sentry: Callable[[str], None]) -> None:
    same_in_sentry(f"files/{program}.c")


# Set-id bits are given, which `do` with a bind refuses, or users changed.
@pytest.mark.parametrize("program", ["opening", "attributes", "naming", "sigio"])
def test_program_tells_the_same_in_a_container(program: str, same_in_container: Callable[[str], None]) -> None:
    same_in_container(f"files/{program}.c")


def test_ids_and_capabilities_decide_as_on_the_host(same_in_container: Callable[[str], None]) -> None:
    same_in_container("files/identity.c")


def test_set_id_bits_are_refused_where_files_belong_to_an_owner_of_the_host(tmp_path: Path) -> None:
    words = ["do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--", "sh", "-c", "touch /t/f; chmod 4755 /t/f; chmod 2755 /t"]
    done = subprocess.run([str(CASEMATE), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Operation not permitted") == 2
    assert (tmp_path / "f").stat().st_mode & 0o6000 == 0


@pytest.mark.parametrize("way", ["truncated", "appended", "seeked"])
def test_a_given_file_has_one_position_for_all_who_write(tmp_path: Path, way: str) -> None:
    """Standard output is a regular file of the host's: written, copied, sent and spliced into, by several processes."""
    program = HERE / "files/given_output.py"
    tmp_path.chmod(0o755)
    (tmp_path / program.name).write_bytes(program.read_bytes())
    (tmp_path / "source").write_bytes(bytes(range(256)) * 200)
    results = []
    for name, base, prefix in (
        ("native", str(tmp_path), []),
        ("served", "/t", [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t:ro", "--"]),
    ):
        output = tmp_path / f"{way}.{name}"
        output.write_bytes(b"before" * 1000)
        flags = {"truncated": os.O_TRUNC, "appended": os.O_APPEND, "seeked": 0}[way]
        fd = os.open(output, os.O_RDWR | flags)
        try:
            if way == "seeked":
                os.lseek(fd, 1234, os.SEEK_SET)
            command = ["/usr/bin/python3", "-I", "-S", f"{base}/{program.name}", "7", f"{base}/source"]
            done = subprocess.run([*prefix, *command], stdin=subprocess.DEVNULL, stdout=fd, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            results.append((done.returncode, done.stderr, output.read_bytes(), os.lseek(fd, 0, os.SEEK_CUR)))
        finally:
            os.close(fd)
    assert results[1] == results[0]

"""Files and identity: answers and side effects equal the host's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CASEMATE = Path(__file__).parents[2] / ".venv/bin/casemate"


@pytest.mark.parametrize("program", ["locks", "filters", "listing"])
def test_program_tells_the_same_in_the_sentry(program: str, same_in_sentry: Callable[[str], None]) -> None:
    same_in_sentry(f"files/{program}.c")


# Set-id bits are given, which `do` with a bind refuses.
@pytest.mark.parametrize("program", ["opening", "attributes"])
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

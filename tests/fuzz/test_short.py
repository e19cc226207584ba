"""A short run of the system-call fuzzer; `make fuzz` makes long ones. The seeds are those of runs that found something, and one more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle import Bundle, leftovers
from fuzz import harness

SECONDS = 6
MOST_PROCESSES = 12


@pytest.mark.parametrize("seed", [1])
def test_random_calls_hurt_neither_the_sentry_nor_its_other_programs_nor_the_host(seed: int, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    bundle = Bundle(tmp_path, "casemate")
    try:
        report = harness.run(bundle, seed, SECONDS, MOST_PROCESSES)
    finally:
        bundle.close()
    assert leftovers(bundle.id, tmp_path) == []
    assert report.faults == []
    assert report.processes > 0
    assert report.answers > 0

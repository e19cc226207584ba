"""Faults around casemate: kills, full disks, damaged files, races. Nothing may be left behind, and each error is one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import Bundle, leftovers


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []

"""A state root that sandboxes' ids can reach: pytest's own directories are root's alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def state_root() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="casemate-report-"))
    directory.chmod(0o711)
    yield directory / "state"
    shutil.rmtree(directory)

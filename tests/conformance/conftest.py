"""Each conformance test runs on runc too: it counts only if it passes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import RUNTIMES, Bundle, leftovers


@pytest.fixture(params=list(RUNTIMES))
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path, request.param)
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []

"""One sandbox for the tests of a file that only look; `fresh` for those that change or end it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate import Sandbox


@pytest.fixture(scope="session")
def state_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def sandbox(state_root: str) -> Iterator[Sandbox]:
    with Sandbox.create(state_root=state_root, memory="128M", envs={"FRUIT": "pear"}) as made:
        yield made


@pytest.fixture
def fresh(state_root: str) -> Iterator[Sandbox]:
    with Sandbox.create(state_root=state_root) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(state_root: str) -> Iterator[None]:
    """No descriptor leaks from a test."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    after = len(list(Path("/proc/self/fd").iterdir()))
    # pooled connections and the pump thread's pipe stay: at most these
    assert after <= before + 8

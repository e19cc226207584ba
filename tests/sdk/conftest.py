"""Every test runs once for each isolation, which a user's configuration chooses. One sandbox for the tests of a file that only look; `fresh` for those
that change or end it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate import Sandbox
from casemate.sdk._closing import settle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A guest takes seconds to boot: of tests that differ in a value only, it gets the last."""
    values = [item for item in items if item.name.startswith("test_a_user_by_name_or_number[microvm")]
    for item in values[:-1]:
        items.remove(item)


@pytest.fixture(scope="module", params=["namespaces", "sentry", "microvm"], autouse=True)
def isolation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("config")
    (home / "casemate").mkdir()
    (home / "casemate/config.toml").write_text(f'isolation = "{request.param}"\nhypervisor = "uml"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home))
        yield request.param


@pytest.fixture(scope="session")
def state_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def sandbox(isolation: str, state_root: str) -> Iterator[Sandbox]:
    with Sandbox.create(state_root=state_root, memory="128M", envs={"FRUIT": "pear"}) as made:
        assert made.get_info().isolation == isolation
        yield made


@pytest.fixture
def fresh(state_root: str) -> Iterator[Sandbox]:
    with Sandbox.create(state_root=state_root) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(state_root: str) -> Iterator[None]:
    """No descriptor leaks from a test."""
    settle()
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    settle()
    after = len(list(Path("/proc/self/fd").iterdir()))
    # pooled connections and the pump thread's pipe stay: at most these
    assert after <= before + 8

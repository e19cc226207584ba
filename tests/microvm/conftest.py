"""Guests and monitors. Every test of the monitor needs /dev/kvm, and skips without it; those of guests under other hypervisors do not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from microvm.monitor import Monitor, build_guest

_NEEDS_NO_KVM = ("test_isolation", "test_guest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.path.name.startswith(_NEEDS_NO_KVM):
            item.add_marker(pytest.mark.skip(reason="no /dev/kvm that can be opened"))


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_guest("start", tmp_path_factory.mktemp("guest") / "guest.elf")


@pytest.fixture(scope="session")
def pvh_guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_guest("pvh", tmp_path_factory.mktemp("guest") / "pvh.elf")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    with contextlib.ExitStack() as left:

        def begin(*options: str, prefix: Sequence[str] = (), pass_fds: Sequence[int] = (), folder: Path = tmp_path) -> Monitor:
            monitor = Monitor(folder, *options, prefix=prefix, pass_fds=pass_fds)
            left.callback(monitor.close)
            return monitor

        yield begin


@pytest.fixture
def monitor(start: Callable[..., Monitor]) -> Monitor:
    return start()

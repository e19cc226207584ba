"""Attacks on casemate from inside a container, and from its image or configuration. Each test asserts that one fails."""

from __future__ import annotations

import shutil
import subprocess
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


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with one file, outside of the root: no attack may add to it or change it."""
    directory = tmp_path / "canary"
    directory.mkdir()
    (directory / "file").write_text("untouched")
    yield directory
    assert [path.name for path in directory.iterdir()] == ["file"]
    assert (directory / "file").read_text() == "untouched"


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hostile.c, compiled to a static program that runs in any root."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("hostile") / "hostile"
    source = Path(__file__).with_name("hostile.c")
    subprocess.run(["cc", "-O1", "-static", "-o", str(program), str(source)], check=True)
    return program

"""docs/compat/syscalls.md is what the sentry's table says."""

from __future__ import annotations

import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "syscalls-page"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("syscalls_page", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    source = compile(SCRIPT.read_text(), str(SCRIPT), "exec")
    exec(source, module.__dict__)
    return module


def test_page_is_fresh() -> None:
    done = subprocess.run([SCRIPT, "--check"], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


def test_rows_are_read(script: ModuleType) -> None:
    rows = script.read_rows(
        'syscalls! {\n    3 close(fd: i32) => descriptors, Full;\n    1 write() => x, Partial("no; a|b");\n    2 bpf() => refused, Partial("EPERM");\n}\n'
    )

    assert [str(row) for row in rows] == [
        "| 1 | write | x | partly: no; a\\|b |",
        "| 2 | bpf | refused | refused: EPERM |",
        "| 3 | close | descriptors | full |",
    ]


@pytest.mark.parametrize("source", ["", "syscalls! {\n    1 write(fd: i32) => x, Half;\n}\n", "syscalls! {\n    write() => x, Full;\n}\n"])
def test_what_is_no_row_is_an_error(script: ModuleType, source: str) -> None:
    with pytest.raises(ValueError, match=r"row|block"):
        script.read_rows(source)

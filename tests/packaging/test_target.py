"""Which target the engine is built for: `packaging/target`, which the Makefile and the wheel ask."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "target"
GLIBC, MUSL = "x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"


@pytest.mark.parametrize(
    ("libraries", "wanted", "target"),
    [((GLIBC, MUSL), "", MUSL), ((GLIBC,), "", GLIBC), ((GLIBC, MUSL), GLIBC, GLIBC)],
    ids=["with musl's library", "without it", "somebody's own"],
)
def test_target(tmp_path: Path, libraries: tuple[str, ...], wanted: str, target: str) -> None:
    rustc = tmp_path / "rustc"
    rustc.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    rustc.chmod(0o755)
    for library in libraries:
        (tmp_path / "lib" / "rustlib" / library).mkdir(parents=True)
    said = subprocess.run([SCRIPT], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CARGO_BUILD_TARGET": wanted}, capture_output=True, text=True, check=True)
    assert said.stdout == f"{target}\n"

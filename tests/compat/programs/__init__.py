"""Static programs in Go and Rust, built with the machine's own tools."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from tests.compat.root import CACHE

HERE = Path(__file__).resolve().parent


@functools.cache
def build_programs() -> tuple[Path, ...]:
    """parallel-go and parallel-rust. Raises CalledProcessError, or FileNotFoundError without `go` or `rustc`."""
    CACHE.mkdir(exist_ok=True)
    by_go, by_rust = CACHE / "parallel-go", CACHE / "parallel-rust"
    subprocess.run(["go", "build", "-o", by_go, HERE / "parallel.go"], check=True, env=os.environ | {"CGO_ENABLED": "0"})
    command = ["rustc", "-O", "-C", "target-feature=+crt-static", "--edition", "2024", "-o", by_rust, HERE / "parallel.rs"]
    subprocess.run(command, check=True)
    return by_go, by_rust

"""What every failure of the command line looks like."""

from __future__ import annotations

import subprocess


def assert_clear(done: subprocess.CompletedProcess[str], *named: str) -> None:
    """It failed, with one line on standard error that names these."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [name for name in named if name not in done.stderr] == [], done.stderr

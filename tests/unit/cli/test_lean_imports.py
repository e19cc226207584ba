"""The OCI verbs' import path: what an engine pays at each call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[3] / "src")
# Each costs milliseconds (measured: json 8, re 5, argparse 6, typing 4, subprocess 11, socket 7): a verb takes about 10 in all.
HEAVY = {"argparse", "asyncio", "dataclasses", "enum", "inspect", "json", "logging", "msgspec", "pathlib", "re", "rich", "shutil", "socket",
         "subprocess", "tempfile", "tomllib", "typing"}  # fmt: skip


@pytest.mark.parametrize("verb", ["create", "start", "run", "state", "kill", "delete", "exec", "list", "pause", "resume", "features", "spec"])
def test_verb_imports_nothing_heavy(verb: str) -> None:
    code = f"import sys; sys.path.append({SOURCE!r})\nimport casemate.cli.main, casemate.cli.commands.{verb}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.intersection(done.stdout.split()) == set()

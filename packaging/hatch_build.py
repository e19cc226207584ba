"""Puts the engine and the launcher into the wheel; builds them first unless they were built already."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "x86_64-unknown-linux-gnu"


class EngineHook(BuildHookInterface[Any]):
    """Compiles the static executables and names the wheel's platform: any Python 3, any Linux libc, this machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        subprocess.run(
            ["cargo", "build", "--locked", "--profile", "engine", "-p", "casemate-engine", "-p", "casemate-launcher"],
            cwd=root,
            check=True,
            stdout=sys.stderr,
        )
        built = root / "target" / TARGET / "engine"
        binaries = root / "src" / "casemate" / "_bin"
        binaries.mkdir(exist_ok=True)
        shutil.copy2(built / "casemate-engine", binaries / "casemate-engine")
        build_data["shared_scripts"] = {str(built / "casemate"): "casemate"}
        build_data["pure_python"] = False
        # Static executables need no libc: the oldest tag that pip knows is the truth.
        build_data["tag"] = "py3-none-manylinux2014_x86_64"

"""Puts the engine and the launcher into the wheel, compiled anew where their sources changed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Static executables need no libc: the oldest tag that pip knows is the truth.
TAG = "py3-none-manylinux2014_x86_64"


class EngineHook(BuildHookInterface[Any]):
    """Compiles the static executables and names the wheel's platform: any Python 3, any Linux libc, x86-64."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise SystemExit(f"casemate's engine is for Linux on x86-64; this is {sys.platform} on {platform.machine()}")
        if shutil.which("cargo") is None:
            raise SystemExit("casemate's engine is compiled here: install Rust (cargo), or a wheel in place of the source")
        root = Path(self.root)
        target = subprocess.run(["bash", root / "packaging/target"], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        packages = ["-p", "casemate-engine", "-p", "casemate-launcher"]
        command = ["cargo", "build", "--locked", "--target", target, "--profile", "engine", *packages]
        subprocess.run(command, cwd=root, check=True, stdout=sys.stderr)
        built = root / os.environ.get("CARGO_TARGET_DIR", "target") / target / "engine"
        # Straight from where they were built: the source tree, where a container may run from them, stays as it is.
        subprocess.run(["bash", root / "packaging/symbols", built], check=True, stdout=sys.stderr)
        for name in ("casemate-engine", "casemate-engine.symbols"):
            build_data["force_include"][str(built / "ship" / name)] = f"casemate/_bin/{name}"
        build_data["shared_scripts"][str(built / "casemate")] = "casemate"
        build_data["pure_python"] = False
        build_data["tag"] = TAG

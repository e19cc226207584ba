"""What the attacks share."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bundle import CASEMATE, Bundle

PACKAGE = Path(CASEMATE).parents[2] / "src/casemate"
# As docker gives them to each container.
USUAL = """CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP
 CAP_SETUID CAP_SYS_CHROOT CAP_AUDIT_WRITE""".split()


def grant(bundle: Bundle, *more: str) -> None:
    """The usual capabilities, and more."""
    names = [*USUAL, *more]
    bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)


def install(bundle: Bundle, program: Path) -> None:
    shutil.copy(program, bundle.rootfs / "bin" / program.name)


def start(bundle: Bundle, *args: str) -> None:
    bundle.create(*args)
    bundle.verb("start", bundle.id, check=True)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what


def host_programs() -> dict[str, str]:
    """The runtime's programs on the host and their hashes."""
    programs = [Path(CASEMATE), Path(sys.executable).resolve(), PACKAGE / "_bin/casemate-engine"]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in programs}


def mount_points() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def mount_before_pivot(bundle: Bundle, target: Path) -> Callable[[], set[str]]:
    """Has a hook copy the container's mounts while the host's root is still in sight; returns what reads their mount points."""
    script = f"cat /proc/self/mountinfo > {target}"
    bundle.config["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    return lambda: {line.split()[4] for line in target.read_text().splitlines()} if target.exists() else set()


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

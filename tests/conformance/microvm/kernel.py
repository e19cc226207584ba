"""The kernel of ours, from Debian's source to a guest's `uname`: built (some minutes, once; what is in the store is not built again), checked, booted
under QEMU's emulation, and restored from its template.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator

from tests.bundle import CASEMATE

Result = tuple[str, str, str]
NAME = "the kernel of ours is built and boots guests"
BUILD_S = 3600
GUEST_S = 180


def kernel_of_ours() -> Iterator[Result]:
    try:
        print(f"  {journey()}", flush=True)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        yield NAME, str(error), ""
        return
    yield NAME, "", ""


def journey() -> str:
    """How long each part took. Raises AssertionError."""
    began = time.monotonic()
    casemate(["kernel", "build", "--yes"], BUILD_S)
    built = time.monotonic() - began
    assert "as it was installed" in casemate(["kernel", "verify", "casemate"], GUEST_S)
    # Files, a cgroup, namespaces and a filter are there, or `do` would not have come to the program.
    words = ["do", "--isolation=microvm", "--hypervisor=qemu", "--", "sh", "-c", "uname -r; nproc"]
    times = []
    for template in ("0", "1", "1"):
        began = time.monotonic()
        release = casemate(words, GUEST_S, CASEMATE_TEMPLATE=template)
        times.append(time.monotonic() - began)
        assert re.fullmatch(r"6\.1\.\d+-casemate\n1\n", release), release
    return f"built in {built:.1f} s; a guest's `uname`: booted {times[0]:.1f} s, from the template {times[2]:.1f} s"


def casemate(words: list[str], patience_s: float, **environment: str) -> str:
    done = subprocess.run([CASEMATE, *words], env={**os.environ, **environment}, capture_output=True, text=True, timeout=patience_s, check=False)
    assert done.returncode == 0, f"{' '.join(words[:2])}: {done.stderr.strip()[-300:]}"
    return done.stdout

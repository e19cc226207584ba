"""`make stress`: stress-ng's classes in the sentry, a minute each, every stressor of a class in turn with its own checks.

What fails is run again on the host's kernel, by `--isolation namespaces` with the same policy: it counts where it passes there.

python -m tests.stress.run_all [CLASS...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASEMATE = str(ROOT / ".venv/bin/casemate")
CLASSES = ("cpu", "memory", "filesystem", "pipe", "scheduler", "vm")
CLASS_S = float(os.environ.get("STRESS_S", "60"))
LIMIT_S = 60
# Passes on the host's kernel and not in the sentry, on purpose.
KNOWN = {
    "dev-shm": "fallocate(2) beyond the memory limit: the sentry makes it, so that killing the program does not end it, and further ones are killed",
    "physpage": "/proc/self/pagemap tells physical addresses: the sandbox has none",
}
# stress-ng(1): not there on this kernel or machine, out of resources, not run.
SKIPPED = (3, 4)


def stressors(kind: str) -> list[str]:
    """A class's stressors, without those that stress-ng itself would only run when asked to risk the machine."""
    listed = subprocess.run(["stress-ng", "--class", f"{kind}?"], capture_output=True, text=True, check=True)
    words = (listed.stdout + listed.stderr).split(":", 1)[1].split()
    return [word for word in words if re.fullmatch(r"[\w-]+", word)]


def run(stressor: str, isolation: str, seconds: float) -> tuple[int, str]:
    """The exit code, and what was said."""
    command = [CASEMATE, "do", "--isolation", isolation, "--memory", "3G", "--timeout", str(LIMIT_S), "--"]
    command += ["stress-ng", "--temp-path", "/tmp", "--verify", f"--{stressor}", "1", "--timeout", f"{max(1, round(seconds))}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    text = done.stdout + done.stderr
    return (SKIPPED[0] if "disabled" in text and "No stress workers" in text else done.returncode), text


def stress(kind: str) -> list[str]:
    """Runs a class; returns those of its stressors that fail only in the sentry."""
    names = stressors(kind)
    began, failed, skipped = time.monotonic(), [], 0
    for name in names:
        code, text = run(name, "sentry", CLASS_S / len(names))
        if code in SKIPPED:
            skipped += 1
        elif code != 0:
            native, _ = run(name, "namespaces", 1)
            if native != 0:
                skipped += 1
                continue
            reason = KNOWN.get(name, "")
            last = (text.strip().splitlines() or [""])[-1][:200]
            print(f"  {name}: exit code {code}, on the host's kernel 0{f' (known: {reason})' if reason else f': {last}'}", flush=True)
            failed += [] if reason else [name]
    took = time.monotonic() - began
    print(f"{kind}: {len(names)} stressors, {skipped} cannot run on the host's kernel either, {len(failed)} fail; {took:.0f} s", flush=True)
    return failed


def main() -> int:
    failed = [name for kind in sys.argv[1:] or CLASSES for name in stress(kind)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

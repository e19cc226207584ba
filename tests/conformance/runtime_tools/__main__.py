"""opencontainers/runtime-tools' validation suite on runc and on casemate, in one run: what runc passes, casemate must pass.

The suite is a Go module from before go.mod: go.mod.txt and go.sum.txt beside this file pin what it builds with.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runtimes import DEVIATIONS, ORACLE, OURS, runtimes

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
CACHE = PROJECT / ".cache" / "runtime-tools"
MODULE = "github.com/opencontainers/runtime-tools@v0.9.0"
RUNTIMES = runtimes()
TIMEOUT_S = 40
VERB_TIMEOUT_S = 30


def build() -> Path:
    """The suite's directory, its tests built into bin/. Raises CalledProcessError."""
    source = CACHE / "src"
    if (source / "bin" / ".built").exists():
        return source
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    subprocess.run(["go", "mod", "download", MODULE], check=True, cwd=CACHE)
    modules = subprocess.run(["go", "env", "GOMODCACHE"], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copytree(Path(modules) / MODULE, source)
    subprocess.run(["chmod", "-R", "u+w", source], check=True)
    shutil.copy(HERE / "go.mod.txt", source / "go.mod")
    shutil.copy(HERE / "go.sum.txt", source / "go.sum")
    (source / "bin").mkdir()
    environment = os.environ | {"GOFLAGS": "-mod=mod"}
    subprocess.run(
        ["go", "build", "-o", "runtimetest", "./cmd/runtimetest"],
        cwd=source,
        env=environment | {"CGO_ENABLED": "0"},
        check=True,
    )
    for test in sorted(path.name for path in (source / "validation").iterdir() if path.is_dir() and path.name != "util"):
        subprocess.run(["go", "build", "-o", f"bin/{test}", f"./validation/{test}"], cwd=source, env=environment, check=True)
    (source / "bin" / ".built").touch()
    return source


@contextmanager
def of_its_own(runtime: str) -> Iterator[str]:
    """The runtime as a program that keeps its containers apart from all others; those that are left in the end (half of the tests delete none) are deleted."""
    with tempfile.TemporaryDirectory(prefix="casemate-runtime-tools-", ignore_cleanup_errors=True) as made:
        program = Path(made, "runtime")
        program.write_text(f'#!/bin/sh\nexec {runtime} --root {made}/state "$@"\n')
        program.chmod(0o755)
        try:
            yield str(program)
        finally:
            listed = subprocess.run([program, "list", "--quiet"], capture_output=True, text=True, check=False, timeout=VERB_TIMEOUT_S)
            for name in listed.stdout.split():
                subprocess.run([program, "delete", "--force", name], capture_output=True, check=False, timeout=VERB_TIMEOUT_S)


def run(source: Path, test: str, runtime: str) -> tuple[bool, str]:
    """Whether the test passed, and the first line that says why not."""
    with of_its_own(RUNTIMES[runtime]) as program:
        return run_on(source, test, program)


def run_on(source: Path, test: str, program: str) -> tuple[bool, str]:
    process = subprocess.Popen(
        [f"bin/{test}"],
        cwd=source,
        env=os.environ | {"RUNTIME": program},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return False, f"still ran after {TIMEOUT_S} s"
    failures = [line.strip() for line in output.splitlines() if line.strip().startswith("not ok") and "# SKIP" not in line]
    passed = process.returncode == 0 and not failures
    reason = failures[0] if failures else next(iter(output.strip().splitlines()[-1:]), f"exit code {process.returncode}")
    return passed, "" if passed else reason[:110]


def main(names: list[str]) -> int:
    source = build()
    tests = names or sorted(path.name for path in (source / "bin").iterdir() if not path.name.startswith("."))
    worse = []
    totals = dict.fromkeys(RUNTIMES, 0)
    print(f"{'test':<42} {' '.join(f'{runtime:<9}' for runtime in RUNTIMES)}")
    for test in tests:
        results = {runtime: run(source, test, runtime) for runtime in RUNTIMES}
        for runtime, (passed, _) in results.items():
            totals[runtime] += passed
        if results[ORACLE][0]:
            worse += [f"{test} ({runtime})" for runtime in OURS if not results[runtime][0] and f"{runtime}: {test}" not in DEVIATIONS]
        words = " ".join(f"{'pass' if passed else 'FAIL':<9}" for passed, _ in results.values())
        notes = [f"{runtime}: {why}" for runtime, (_, why) in results.items() if why]
        print(f"{test:<42} {words} {'; '.join(notes)}".rstrip(), flush=True)
    passes = ", ".join(f"{runtime} passes {count}" for runtime, count in totals.items())
    print(f"\n{len(tests)} tests; {passes}; passed by runc only: {', '.join(worse) or 'none'}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

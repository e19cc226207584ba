"""`make bench-sentry`, second part: workloads on the host, in runc, in gVisor's runsc and in the sentry, in one Debian root; milliseconds, and ratios.

The root is that of `make compat`. The host's run is in a chroot of it, with a /proc and a /tmp of its own; the programs are the same files for all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from bench.sentry.run import _ratio, runtimes  # noqa: E402
from tests.compat.bundle import bundle  # noqa: E402
from tests.compat.root import make_root  # noqa: E402

LIMIT_S = 600
_CHROOT = "mount -t proc proc proc && mount -t tmpfs tmpfs tmp && mount --rbind /dev dev && exec chroot . "

Figures = dict[str, tuple[float, float]]


def measure(name: str, base: list[str], root: Path, rows: list[str]) -> Figures:
    """One run of all rows. A row that did not come is missing."""
    inside = ["/usr/bin/python3", "/bench.py", *rows]
    files = {"bench.py": Path(__file__).with_name("inside.py")}
    # runsc leaves a mount in its state directory.
    with bundle([root], inside, files) as directory, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
        wheels = directory / "rootfs/wheels"
        wheels.mkdir()
        for wheel in sorted((ROOT / ".cache/wheels").glob("pygments*.whl")):
            shutil.copy(wheel, wheels)
        if name == "host":
            command = ["unshare", "-m", "-p", "-f", "sh", "-c", _CHROOT + ' "$@"', "sh", *inside]
            where = directory / "rootfs"
        else:
            command = [*base, "--root", state, "run", "--bundle", str(directory), f"bench-{uuid.uuid4().hex[:10]}"]
            where = directory
        try:
            done = subprocess.run(command, cwd=where, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            text, errors = done.stdout, done.stderr
        except subprocess.TimeoutExpired as error:
            text, errors = (error.stdout or b"").decode(), f"not done within {LIMIT_S} s"
    if errors.strip():
        print(f"{name}: {errors.strip()[-400:]}", file=sys.stderr)
    fields = [line.split("\t") for line in text.splitlines()]
    return {row[0]: (float(row[1]) / 1e6, float(row[2]) / 1e6) for row in fields if len(row) == 3}


def show(title: str, results: dict[str, Figures]) -> None:
    print(f"\n{title} (ms, minimum / median)")
    print(f"{'':<38}" + "".join(f"{name:>20}" for name in results) + f"{'/ runsc':>14}{'/ host':>14}")
    for row in results["host"]:
        cells = [figures.get(row) for figures in results.values()]
        shown = "".join(f"{f'{cell[0]:.1f} / {cell[1]:.1f}' if cell else '-':>20}" for cell in cells)
        print(f"{row:<38}{shown}{_ratio(results, row, 'runsc'):>14}{_ratio(results, row, 'host'):>14}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("quiet", "busy"), help="one of the two conditions")
    parser.add_argument("--peers", default="host,runc,runsc,sentry", help="who takes part")
    parser.add_argument("rows", nargs="*", help="only rows whose names contain one of these")
    given = parser.parse_args()
    root = make_root()
    peers = {name: base for name, base in runtimes().items() if name in given.peers.split(",")}
    for condition in [given.only] if given.only else ["quiet", "busy"]:
        spinning = []
        if condition == "busy":
            spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        try:
            show(condition, {name: measure(name, base, root, given.rows) for name, base in peers.items()})
        finally:
            for process in spinning:
                process.kill()
                process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

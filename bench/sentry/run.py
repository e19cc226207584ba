"""`make bench-sentry`: system calls and workloads on the host, in runc, in gVisor's runsc and in the sentry; quiet, and with a busy process per core.

One run, one table: minimum / median per peer in ns, and the sentry's ratios to runsc and to the host. runsc is found on PATH or in .cache/bin
(`CGO_ENABLED=0 GOBIN=$PWD/.cache/bin go install gvisor.dev/gvisor/runsc@latest`); without it the ratios to it are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from tests.bundle import make_rootfs  # noqa: E402

CASEMATE = ROOT / ".venv" / "bin" / "casemate"
PEERS = ("host", "runc", "runsc", "sentry")
LIMIT_S = 300

Figures = dict[str, tuple[float, float]]


def runtimes() -> dict[str, list[str]]:
    """How each peer is called; only those that are installed."""
    runsc = shutil.which("runsc") or str(ROOT / ".cache" / "bin" / "runsc")
    found = {"host": [], "runc": ["runc"], "sentry": [str(CASEMATE), "--isolation", "sentry"]}
    if Path(runsc).exists():
        found["runsc"] = [runsc, "--platform=systrap", "--ignore-cgroups", "--network=none"]
    return {name: found[name] for name in PEERS if name in found}


def make_bundle(directory: Path, rows: list[str], cgroup: str | None) -> None:
    """A busybox root with the program in it."""
    rootfs = make_rootfs(directory / "rootfs")
    source = Path(__file__).with_name("calls.c")
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", rootfs / "calls", source], check=True)
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/calls", *rows]}
    config["root"] = {"path": "rootfs", "readonly": False}
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
    if cgroup:
        config["linux"]["cgroupsPath"] = f"{cgroup}/bench-{uuid.uuid4().hex[:10]}"
    (directory / "config.json").write_text(json.dumps(config))


def measure(name: str, base: list[str], bundle: Path, rows: list[str]) -> Figures:
    """One run of all rows. A row that did not come is missing."""
    container = f"bench-{uuid.uuid4().hex[:10]}"
    if name == "host":
        command = [str(bundle / "rootfs" / "calls"), *rows]
    else:
        command = [*base, "--root", str(bundle / f"state-{name}"), "run", "--bundle", str(bundle), container]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        text = done.stdout
        if done.returncode:
            print(f"{name}: ends with {done.returncode}: {done.stderr.strip()[-200:]}", file=sys.stderr)
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode()
        print(f"{name}: not done within {LIMIT_S} s", file=sys.stderr)
    if name != "host":
        subprocess.run([*base, "--root", str(bundle / f"state-{name}"), "delete", "--force", container], capture_output=True, check=False)
    fields = [line.split("\t") for line in text.splitlines()]
    return {row[0]: (float(row[1]), float(row[2])) for row in fields if len(row) == 3}


def show(title: str, results: dict[str, Figures]) -> None:
    names = list(results)
    print(f"\n{title} (ns, minimum / median)")
    print(f"{'':<38}" + "".join(f"{name:>20}" for name in names) + f"{'/ runsc':>14}{'/ host':>14}")
    for row in results["host"]:
        cells = [results[name].get(row) for name in names]
        shown = "".join(f"{f'{cell[0]:.0f} / {cell[1]:.0f}' if cell else '-':>20}" for cell in cells)
        print(f"{row:<38}{shown}{_ratio(results, row, 'runsc'):>14}{_ratio(results, row, 'host'):>14}")


def _ratio(results: dict[str, Figures], row: str, against: str) -> str:
    ours, theirs = results.get("sentry", {}).get(row), results.get(against, {}).get(row)
    if not ours or not theirs:
        return "-"
    return f"{ours[0] / theirs[0]:.2f} / {ours[1] / theirs[1]:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--only", choices=("quiet", "busy"), help="one of the two conditions")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="only these; the host is always among them")
    parser.add_argument("--rows", nargs="+", default=[], metavar="WORD", help="only rows whose names contain one of the words")
    parser.add_argument("--cgroup", metavar="PATH", help="put the containers below this cgroup: where this runs, and which may have more shares than all else")
    given = parser.parse_args()
    peers = {name: base for name, base in runtimes().items() if name == "host" or name in given.peers}
    document: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="casemate-bench-", ignore_cleanup_errors=True) as name:
        bundle = Path(name)
        bundle.chmod(0o755)
        make_bundle(bundle, given.rows, given.cgroup)
        for condition in [given.only] if given.only else ["quiet", "busy"]:
            spinning = []
            if condition == "busy":
                spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
            try:
                document[condition] = {peer: measure(peer, base, bundle, given.rows) for peer, base in peers.items()}
            finally:
                for process in spinning:
                    process.kill()
                    process.wait()
            show(condition, document[condition])
    if given.json:
        Path(given.json).write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

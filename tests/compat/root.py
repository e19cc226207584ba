"""The root file system: Debian 12, minbase and the programs that the workloads use, made once by debootstrap."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGES = (
    "python3 python3-venv python3-pip libpython3.11-testsuite gcc libc6-dev make git sqlite3 perl tar gzip xz-utils bzip2 diffutils findutils procps file bc "
    "time less vim-tiny psmisc iproute2 curl busybox strace attr acl"
).split()
CACHE = Path(__file__).resolve().parents[2] / ".cache"
_DONE = "etc/compat-root-is-whole"


def make_root() -> Path:
    """The directory; made if it is not there, which takes two minutes and the network. Raises CalledProcessError."""
    root = CACHE / "compat-root"
    if (root / _DONE).exists():
        return root
    CACHE.mkdir(exist_ok=True)
    subprocess.run(["rm", "-rf", root], check=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=1500)
    (root / _DONE).touch()
    return root

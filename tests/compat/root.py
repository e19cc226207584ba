"""The root file system: Debian 12, minbase and the programs that the workloads use, made once by debootstrap; and sources that they build or test."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGES = (
    "python3 python3-venv python3-pip libpython3.11-testsuite gcc libc6-dev make git sqlite3 perl tar gzip xz-utils bzip2 diffutils findutils procps file bc "
    "time less vim-tiny psmisc iproute2 curl busybox strace attr acl stress-ng patch net-tools netbase"
).split()
CACHE = Path(__file__).resolve().parents[2] / ".cache"
DONE = "etc/compat-root-is-whole-2"
# Unpacked in /usr/src/compat. test_sqlite3 is the one suite that Debian's package of suites leaves out.
_SOURCES = """set -e
echo 'deb-src http://deb.debian.org/debian bookworm main' >> /etc/apt/sources.list
mkdir -p /usr/src/compat; cd /usr/src/compat
apt-get update -qq
apt-get source -qq --download-only busybox hello lua5.4 python3.11
rm -f *.asc
for name in busybox hello lua5.4; do tar xf ${name}_*.orig.tar.?z*; done
mv busybox-* busybox; mv hello-* hello; mv lua-* lua
tar xf busybox_*.debian.tar.* -C busybox
tar xf python3.11_*.orig.tar.* -C /usr/lib/python3.11 --strip-components=2 --wildcards 'Python-*/Lib/test/test_sqlite3'
rm -f *.dsc *.tar.*
rm -rf /var/lib/apt/lists/*
"""


def make_root() -> Path:
    """The directory; made if it is not there, which takes three minutes and the network. Raises CalledProcessError."""
    root = CACHE / "compat-root"
    if (root / DONE).exists():
        return root
    CACHE.mkdir(exist_ok=True)
    subprocess.run(["rm", "-rf", root], check=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=1500)
    # debootstrap leaves the host's resolver; a container's /etc/hosts comes from its engine.
    (root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
    subprocess.run(["chroot", root, "sh", "-c", _SOURCES], check=True, stdout=subprocess.DEVNULL, timeout=600)
    (root / DONE).touch()
    return root

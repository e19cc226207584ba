"""Servers, toolchains, and what else is too large for every workload's root: layers of packages over it, each made once for the list it has then."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.compat.root import CACHE, DONE

if TYPE_CHECKING:
    from pathlib import Path

# By the directory of the workloads that want it.
PACKAGES = {
    "services": ("nodejs redis-server redis-tools postgresql-15 rsync openssh-server openssh-client nginx-light tmux ruby php-cli valgrind libc6-dbg").split(),
    "toolchains": "openjdk-17-jdk-headless golang-go".split(),
}
# What of a layer says of which packages, over which root, it was made.
_STAMP = "etc/compat-layer"
# java's packages look at /proc, and at a directory of manuals that a small root has not.
_INSTALL = """set -e
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
mkdir -p /etc/postgresql-common /usr/share/man/man1; echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/cache/apt/*.bin
"""


def make_layer(name: str, root: Path) -> Path:
    """The layer, to be mounted over `root`; made if it is not there or its list has changed, which takes minutes and the network.

    Raises CalledProcessError.
    """
    layer = CACHE / f"compat-{name}"
    stamp = f"{' '.join(PACKAGES[name])} over {DONE}\n"
    if (layer / _STAMP).is_file() and (layer / _STAMP).read_text() == stamp:
        return layer
    # Made under another name: a layer that exists is whole.
    making, work, target = [CACHE / f"compat-{name}.{part}" for part in ("making", "work", "root")]
    for path in (making, work, target):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={root},upperdir={making},workdir={work}", target], check=True)
    try:
        subprocess.run(["mount", "-t", "proc", "proc", target / "proc"], check=True)
        command = ["chroot", target, "sh", "-c", _INSTALL, "sh", *PACKAGES[name]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=1500)
    finally:
        subprocess.run(["umount", "-R", target], check=True)
    (making / _STAMP).write_text(stamp)
    shutil.rmtree(layer, ignore_errors=True)
    making.rename(layer)
    shutil.rmtree(work)
    target.rmdir()
    return layer

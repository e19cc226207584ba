"""Servers, and tools that are too large for every workload's root: a layer of packages over it, about 350 MB, made once."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.compat.root import CACHE

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = "nodejs redis-server redis-tools postgresql-15 rsync openssh-server openssh-client nginx-light tmux ruby".split()
_INSTALL = f"""set -e
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
mkdir -p /etc/postgresql-common; echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold {" ".join(PACKAGES)}
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/cache/apt/*.bin
"""


def make_layer(root: Path) -> Path:
    """The layer, to be mounted over `root`; made if it is not there, which takes some minutes and the network. Raises CalledProcessError."""
    layer = CACHE / "compat-services"
    if layer.exists():
        return layer
    # Made under another name: a layer that exists is whole.
    making, work, target = [CACHE / f"compat-services.{name}" for name in ("making", "work", "root")]
    for path in (making, work, target):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={root},upperdir={making},workdir={work}", target], check=True)
    try:
        subprocess.run(["chroot", target, "sh", "-c", _INSTALL], check=True, stdout=subprocess.DEVNULL, timeout=1500)
    finally:
        subprocess.run(["umount", target], check=True)
    making.rename(layer)
    shutil.rmtree(work)
    target.rmdir()
    return layer

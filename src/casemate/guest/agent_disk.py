"""The agent on a disk of its own, EROFS: a guest reads what it needs of it, and nobody unpacks the rest.

Against an initial file system of the same 13 MiB: on a KVM that emulates guests' kernels that one takes 22 s of copying and freeing at each boot, and
everywhere its pages stay in the guest's memory. A kernel that needs modules to find a disk boots from the archive all the same.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile

from casemate.errors import HostError
from casemate.guest import images
from casemate.guest.initramfs import AGENT, DIRECTORIES, kept
from casemate.isolation.engine_process import engine_path

_LABEL = "agent"


def why_not() -> str:
    """What this host lacks for it; "" if nothing."""
    if os.geteuid() != 0:
        return "the disk has device files on it, which only root can make"
    return images.why_not()


def agent_disk() -> str:
    """The path of the disk with today's agent; made if there is none. Raises HostError."""
    lacking = why_not()
    if lacking:
        raise HostError(f"the guest's agent has no disk: {lacking}", "install erofs-utils, and start it as root")
    return kept(_LABEL, "disk.erofs", _write)


def _write(path: str) -> None:
    with tempfile.TemporaryDirectory() as tree:
        for name in DIRECTORIES:
            os.mkdir(f"{tree}/{name}", 0o755)
        # What the first process's standard streams are.
        os.mknod(f"{tree}/dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
        shutil.copyfile(engine_path(), f"{tree}/{AGENT}")
        os.chmod(f"{tree}/{AGENT}", 0o755)
        images.run([images.program_path(images.MAKE), "--quiet", path, tree])

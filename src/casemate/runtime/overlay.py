"""The writable layer of a sandbox over a root that nobody may change, and what was changed in it."""

from __future__ import annotations

import os
import stat

from casemate.runtime.scratch import remove_scratch

# Directories of the host's root that a sandbox's user may make files in; the rest belongs to ids it has not.
_WRITABLE = ("etc", "opt", "usr", "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "usr/local/lib", "usr/share", "var")


class Layer:
    """An upper directory, its work directory and the mount point, below one scratch directory."""

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.upper = f"{scratch}/upper"
        self.work = f"{scratch}/work"
        self.root = f"{scratch}/root"

    def make(self, lower: str, uid: int, gid: int) -> None:
        """Makes the directories, owned by the sandbox's root on the host. `lower` decides which writable ones there are.

        Raises FileExistsError, and has touched nothing, if the layer is somebody else's. After any other error nothing is left.
        """
        os.makedirs(self.scratch, 0o711)
        try:
            self._fill(lower, uid, gid)
        except BaseException:
            self.remove()
            raise

    def _fill(self, lower: str, uid: int, gid: int) -> None:
        for path in (self.upper, self.work, self.root):
            os.mkdir(path, 0o755)
            os.chown(path, uid, gid)
        if os.geteuid() != 0:
            return  # without privileges there are no files of other ids to make
        for name in _WRITABLE:
            if os.path.isdir(f"{lower}/{name}") and not os.path.islink(f"{lower}/{name}"):
                os.mkdir(f"{self.upper}/{name}", 0o755)
                os.chown(f"{self.upper}/{name}", uid, gid)

    def plan(self, lower: str) -> dict[str, object]:
        """The `overlay` of a plan's root."""
        return {"lower": lower, "upper": self.upper, "work": self.work}

    def keep(self) -> str:
        """Moves the upper layer out of the reach of the sandbox's end, and returns where it is."""
        kept = f"{self.scratch}-kept"
        os.rename(self.upper, kept)
        return kept

    def remove(self) -> None:
        """Removes all of it; what is gone already is no error."""
        remove_scratch([self.scratch])

    def changes(self, lower: str) -> list[tuple[str, str]]:
        """(A, C or D, path) for each file added, changed or deleted, sorted by path."""
        found: list[tuple[str, str]] = []
        _walk(self.upper, lower, "", found)
        return sorted(found, key=lambda change: change[1])


def _walk(upper: str, lower: str, path: str, found: list[tuple[str, str]]) -> None:
    with os.scandir(upper + path) as entries:
        for entry in entries:
            inner = f"{path}/{entry.name}"
            mode = entry.stat(follow_symlinks=False)
            below = os.path.lexists(lower + inner)
            if is_whiteout(mode):
                found.append(("D", inner))
            elif stat.S_ISDIR(mode.st_mode):
                if not below:
                    found.append(("A", inner))
                _walk(upper, lower, inner, found)
            elif not _is_our_placeholder(mode, below, upper + inner):
                found.append(("C" if below else "A", inner))


def is_whiteout(status: os.stat_result) -> bool:
    """overlayfs marks a deleted file by a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_our_placeholder(status: os.stat_result, below: bool, path: str) -> bool:
    """An empty file made as a mount's target (in /dev, or for a mask)."""
    return not below and status.st_size == 0 and path.count("/dev/") > 0


def commit(changes: list[tuple[str, str]], upper: str, target: str) -> None:
    """Copies what was added or changed to a directory; devices and sockets are left out. Links are copied as links, never followed."""
    import shutil

    for kind, path in changes:
        source, destination = upper + path, target + path
        if kind == "D":
            continue
        mode = os.lstat(source).st_mode
        if stat.S_ISDIR(mode):
            os.makedirs(destination, exist_ok=True)
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            os.makedirs(os.path.dirname(destination), exist_ok=True)
            shutil.copy2(source, destination, follow_symlinks=False)

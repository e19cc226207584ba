"""The host's root as a sandbox shows it, where one overlay over `/` does not do.

An overlay's lower layer is one file system: what is mounted below it is not seen. And without root's privileges overlayfs refuses a lower layer that has mounts
below it. So mounts below `/` are bound read-only, and without privileges each directory of `/` gets an overlay of its own.
"""

from __future__ import annotations

import os
import stat

from casemate.policy.hidden import DIRECTORIES
from casemate.runtime.overlay import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    Mount = dict[str, object]

# Mounted anew in each sandbox, or hidden.
_OWN = ("/proc", "/sys", "/dev", *(path for path, _ in DIRECTORIES))
_READ_ONLY = ["rbind", "ro", "rro", "nosuid", "nodev"]


def submounts(mountinfo: str) -> list[str]:
    """The mount points of the host that a sandbox should see, outermost first; what is mounted inside of one comes with it."""
    found: list[str] = []
    for line in mountinfo.splitlines():
        path = line.split(" ")[4]
        if "\\" in path:  # proc(5): octal escapes
            path = path.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
        if path != "/" and path.isprintable() and not _is_below(path, _OWN):
            found.append(path)
    found = sorted(set(found))
    return [path for path in found if not any(path.startswith(other + "/") for other in found)]


def read_submounts() -> list[str]:
    """`submounts` of this process."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return submounts(file.read())


def bound(paths: list[str]) -> list[Mount]:
    """Read-only binds of these paths of the host."""
    return [{"destination": path, "type": "bind", "source": path, "options": list(_READ_ONLY)} for path in paths]


def split(layer: Layer, mounted: list[str]) -> list[Mount]:
    """Fills the layer's root with the host's names and returns what to mount on them, for a sandbox without privileges."""
    mounts: list[Mount] = []
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(path), f"{layer.root}{path}")
        elif stat.S_ISDIR(mode):
            os.mkdir(f"{layer.root}{path}", 0o755)
            if _is_below(path, _OWN) or not os.access(path, os.R_OK | os.X_OK):
                continue
            mounts += bound([path]) if any(_is_below(place, (path,)) for place in mounted) else [_overlay(layer, name)]
    return mounts


def _overlay(layer: Layer, name: str) -> Mount:
    upper, work = f"{layer.upper}/{name}", f"{layer.work}/{name}"
    for path in (upper, work):
        os.mkdir(path, 0o755)
    options = ["nosuid", "nodev", f"lowerdir=/{name}", f"upperdir={upper}", f"workdir={work}", "userxattr"]
    return {"destination": f"/{name}", "type": "overlay", "source": "overlay", "options": options}


def _is_below(path: str, directories: tuple[str, ...]) -> bool:
    return any(path == directory or path.startswith(directory + "/") for directory in directories)

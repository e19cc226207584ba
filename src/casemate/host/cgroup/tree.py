"""Makes and removes a container's directories."""

from __future__ import annotations

import errno
import os
import time

from casemate.errors import CgroupError
from casemate.host.cgroup import files
from casemate.host.cgroup.place import Place

_MODE = 0o755
# Seconds between attempts to remove a cgroup whose last process is still being taken apart: 2 s in all.
_PAUSES_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0)


def make(place: Place, *, gives_controllers: bool) -> bool:
    """Makes the directory and its missing parents; False if it was there, empty. Raises OSError; CgroupError if it is in use.

    gives_controllers: whether v2's parents hand their controllers down; on a hybrid host that is left until one is needed.
    """
    return _make_v2(place, gives_controllers) if place.version == 2 else _make_v1(place)


def _make_v1(place: Place) -> bool:
    inherits = "cpuset" in place.controllers
    made = _make_directory(place.path, inherits)
    if not made:
        _check_unused(place)
        if inherits:
            _inherit_cpuset(place.path)
    return made


def _make_directory(path: str, inherits: bool) -> bool:
    """mkdir -p from the far end, as parents mostly exist. Another command may remove a parent meanwhile: hence the loop."""
    for _ in range(8):
        try:
            os.mkdir(path, _MODE)
        except FileExistsError:
            return False
        except FileNotFoundError:
            _make_directory(path[: path.rindex("/")], inherits)
            continue
        if inherits:
            _inherit_cpuset(path)
        return True
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _inherit_cpuset(path: str) -> None:
    """Copies the parent's processors and memory nodes where none are set: a v1 cpuset without them takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if files.read_or(f"{path}/{name}", "-") == "":
            files.write(f"{path}/{name}", files.read(f"{path[: path.rindex('/')]}/{name}"))


def _make_v2(place: Place, gives_controllers: bool) -> bool:
    made = _make_directory(place.path, inherits=False)
    if gives_controllers:
        give_controllers(place)
    if not made:
        _check_unused(place)
    kind = files.read_or(place.file("cgroup.type"), "domain")
    if kind == "domain invalid":
        if made:
            os.rmdir(place.path)
        raise CgroupError(
            "the parent is threaded or has processes of its own, so no container can be below it", path=place.path,
            field="linux.cgroupsPath", remedy="choose a parent without processes",
        )  # fmt: skip
    return made


def give_controllers(place: Place) -> None:
    """Has every parent of a v2 directory, from the top, hand down the controllers it has."""
    available = files.read_or(f"{place.mount}/cgroup.controllers", "").split()
    current = place.mount
    for name in place.path[len(place.mount) + 1 :].split("/"):
        _enable(current, available)
        current = f"{current}/{name}"


def _enable(directory: str, controllers: list[str]) -> None:
    """Gives the directory's children the controllers it has not given yet; those it cannot give are missed where one is needed."""
    path = f"{directory}/cgroup.subtree_control"
    given = files.read_or(path, "").split()
    missing = [f"+{name}" for name in controllers if name not in given]
    if not missing:
        return
    try:
        files.write(path, " ".join(missing))
    except OSError:
        for one in missing:  # all or nothing is the kernel's rule for one write
            try:
                files.write(path, one)
            except OSError:
                pass


def _check_unused(place: Place) -> None:
    """Two containers in one cgroup would be limited, frozen and killed together, without either knowing (runc 1.2 refuses it too)."""
    count = len(files.read_or(place.file("cgroup.procs"), "").split())
    if count:
        raise CgroupError(
            f"the container's cgroup is not empty: {count} processes", controller=place.label, path=place.path,
            field="linux.cgroupsPath", remedy="choose another path, or end the processes",
        )  # fmt: skip
    if files.read_or(place.file("freezer.state"), "") == "FROZEN" or files.read_or(place.file("cgroup.freeze"), "") == "1":
        raise CgroupError("the container's cgroup is frozen", controller=place.label, path=place.path, remedy="remove or thaw it")


def children(path: str) -> list[str]:
    """The cgroups directly below `path`; empty if it is gone."""
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed while it was read
            return []
        raise


def walk(path: str) -> list[str]:
    """`path` and all cgroups below it, parents first."""
    found = [path]
    for directory in found:
        found += children(directory)
    return found


def remove(places: list[Place]) -> None:
    """Removes the directories with all below them. Waits up to 2 s for processes that are dying. Raises CgroupError."""
    left = [place.path for place in places if not _remove_tree(place.path)]
    for pause in _PAUSES_S:
        if not left:
            return
        time.sleep(pause)
        left = [path for path in left if not _remove_tree(path)]
    if left:
        raise CgroupError(
            "cannot remove the container's cgroup: it still has processes", path=left[0], errno=errno.EBUSY,
            remedy="see its cgroup.procs",
        )  # fmt: skip


def _remove_tree(path: str) -> bool:
    """False if it is busy. The leaf alone is tried first: most have nothing below them."""
    if _remove_directory(path):
        return True
    below = walk(path)
    is_gone = True
    for directory in reversed(below):
        is_gone = _remove_directory(directory) and is_gone
    return is_gone


def _remove_directory(path: str) -> bool:
    try:
        os.rmdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise files.failure(error, "cannot remove the cgroup", controller="", path=path) from error
    return True


def remove_if_empty(places: list[Place]) -> None:
    """Removes what has neither processes nor children, and leaves the rest."""
    for place in places:
        try:
            os.rmdir(place.path)
        except OSError:
            pass

"""What the store keeps to start guests sooner: images of root directories, templates of machines, the agent's file systems.

All of it is made again when it is needed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass

from casemate.guest import images, initramfs, store

# Directory of the store: what is in it.
_KINDS = {"images": "root image", "templates": "template", "initramfs": "agent"}


@dataclass(frozen=True)
class Kept:
    kind: str
    name: str
    path: str
    size: int  # bytes that it takes on the disk
    used: float  # seconds since the epoch: the last use; of an agent's file system when it was made
    origin: str = ""  # the directory that an image was made of


def everything() -> list[Kept]:
    """What was used last comes first, by kinds."""
    found = []
    for place, kind in _KINDS.items():
        of_kind = [_look(kind, f"{store.directory()}/{place}", name) for name in _names(f"{store.directory()}/{place}")]
        found += sorted((one for one in of_kind if one), key=lambda one: -one.used)
    return found


def remove(one: Kept) -> None:
    """A machine that runs has what it needs open, or mapped; a start that has just chosen it fails, as when too many others are newer."""
    shutil.rmtree(one.path, ignore_errors=True)
    if os.path.lexists(one.path):
        os.unlink(one.path)


def remove_unfinished() -> None:
    """What makers that were killed have left. Those that are at work are waited for."""
    for place in _KINDS:
        directory = f"{store.directory()}/{place}"
        if not os.path.exists(f"{directory}/.lock"):
            continue
        lock = os.open(f"{directory}/.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name in os.listdir(directory):
                if name.endswith(images.NEW):
                    remove(Kept(place, name, f"{directory}/{name}", 0, 0))
        finally:
            os.close(lock)
    if os.path.isdir(f"{store.directory()}/images"):
        images.remove_orphans(f"{store.directory()}/images")


def _names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [name for name in names if not name.startswith(".") and not name.endswith(images.NEW) and not _is_being_made(name)]


def _is_being_made(name: str) -> bool:
    """An agent's file system has its maker's number behind its name until it is whole (`initramfs.kept`); what a killed one left is as any other."""
    maker = initramfs.maker(name)
    return maker > 0 and os.path.exists(f"/proc/{maker}")


def _look(kind: str, directory: str, name: str) -> Kept | None:
    path = f"{directory}/{name}"
    try:
        status = os.lstat(path)
        size = status.st_blocks
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                size += sum(entry.stat(follow_symlinks=False).st_blocks for entry in entries)
    except FileNotFoundError:
        return None  # another start forgot it
    return Kept(kind, name.removesuffix(".erofs") if kind == "root image" else name, path, size * 512, status.st_mtime, images.origin(path))

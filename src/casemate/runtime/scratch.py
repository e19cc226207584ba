"""Directories made for one container (an overlay's upper layer, mount points): made, recorded, removed."""

from __future__ import annotations

import os

from casemate.errors import CasemateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_HELD = 64


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def remove_scratch(paths: list[str], close: Callable[[list[int]], None] = close_all) -> None:
    """Removes the trees, without following a link out of them. What is already gone is no error. Raises CasemateError, OSError.

    close: what to do with descriptors of directories that are gone. Their blocks are freed with the last one, for which a disk with online discard has us
    wait (0.13 ms each, milliseconds beside other writers): who goes on with other work need not.
    """
    held: list[int] = []
    try:
        _remove_each(paths, held)
    finally:
        close(held)


def _remove_each(paths: list[str], held: list[int]) -> None:
    left = []
    for path in paths:
        try:
            remove_tree(path, held=held)
        except FileNotFoundError:
            pass
        except PermissionError:
            if os.geteuid() == 0:
                raise
            left.append(path)  # it holds files of other ids of the sandbox, or overlayfs' own directory of mode 0
    if left:
        _remove_as_root_of_namespace(left)
        for path in left:
            if os.path.lexists(path):
                raise CasemateError(f"{path} could not be removed")


def remove_tree(path: str, directory: int | None = None, *, held: list[int] | None = None) -> None:
    """Removes a directory with all that is in it, by descriptors, so that no link leads out (shutil.rmtree does the same; its import costs 7 ms).

    held: takes the first directories' descriptors, which stay open.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in names:
            if is_directory:
                remove_tree(name, fd, held=held)
            else:
                os.unlink(name, dir_fd=fd)
    finally:
        if held is not None and len(held) < _MOST_HELD:
            held.append(fd)
        else:
            os.close(fd)
    os.rmdir(path, dir_fd=directory)


def _remove_as_root_of_namespace(paths: list[str]) -> None:
    """`rm` as the root of a user namespace that maps the ids that this user may lend: over their files it has all rights."""
    from casemate.host.facts import host_facts
    from casemate.host.process import wait_child
    from casemate.isolation.base import Handlers, Launch
    from casemate.isolation.engine_process import launch_engine
    from casemate.oci.context import LowerContext
    from casemate.oci.fields.namespaces import create
    from casemate.oci.plan import Phase, PlanBuilder
    from casemate.policy.ids import lend

    lent = lend("")
    mappings = {
        key: [{"containerID": first, "hostID": host, "size": size} for first, host, size in maps]
        for key, maps in (("uidMappings", lent.uid_maps), ("gidMappings", lent.gid_maps))
    }
    plan = PlanBuilder(LowerContext(container_id="scratch", bundle="/", rootfs="/", host=host_facts("none")))
    create({"namespaces": [{"type": "user"}], **mappings}, plan)
    program = {"args": ["rm", "-rf", "--one-file-system", "--", *paths], "env": [], "path": "/usr/bin:/bin"}
    plan.add(Phase.FIND_PROGRAM, "check_exec", **program)
    plan.add(Phase.PROGRAM, "exec", **program)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        handlers = Handlers(child=_ignore, barrier=_ignore, console=os.close, seccomp_listener=os.close)
        wait_child(launch_engine(Launch(plan.build(), stdio=(null, null, null), descriptors=(), handlers=handlers)))
    finally:
        os.close(null)


def _ignore(_: object) -> None:
    """Nothing to do then."""


def unmount_below(root: str) -> None:
    """Detaches the mounts below a directory, the last made first: those of a container that had no mount namespace of its own."""
    import subprocess

    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = [line.split()[4] for line in file]
    for place in reversed(places):
        path = place.encode("utf-8", "surrogateescape").decode("unicode_escape") if "\\" in place else place
        if path.startswith(root + "/"):
            subprocess.run(["umount", "--lazy", "--no-canonicalize", path], check=False, capture_output=True)

"""Intel RDT (resctrl): a container's class of service. Source: config-linux.md "IntelRdt", Documentation/arch/x86/resctrl.rst."""

from __future__ import annotations

import os

from casemate.errors import HostError

ROOT = "/sys/fs/resctrl"


def join(settings: dict[str, object], container_id: str, pid: int, *, root: str = ROOT) -> str:
    """Puts a process into its class; returns the directory that was made for it, "" if none was.

    With `closID` alone the class must exist. Without it, the class is the container's own and goes with it. Raises HostError.
    """
    if not os.path.exists(f"{root}/schemata"):
        raise HostError(f"linux.intelRdt: no resctrl at {root}", f"mount -t resctrl resctrl {root}, on a processor that has it")
    given = settings.get("closID")
    name = str(given or container_id)
    schemata = _schemata(settings)
    if "/" in name or name in (".", "..", "info", "mon_groups", "mon_data"):
        raise HostError(f"linux.intelRdt.closID: {name!r} cannot be a class of service")
    directory = f"{root}/{name}"
    made = ""
    if not os.path.isdir(directory):
        if given and not schemata:
            raise HostError(f"linux.intelRdt.closID: there is no class of service {name!r}, and no schemata to make it with")
        _make(directory)
        made = directory if not given else ""
    try:
        for line in schemata:
            _write(f"{directory}/schemata", line)
        _write(f"{directory}/tasks", str(pid))
    except HostError:
        leave(made)
        raise
    return made


def leave(directory: str) -> None:
    """Removes a class that `join` made; nothing for ""."""
    if directory:
        try:
            os.rmdir(directory)
        except OSError:
            pass  # gone already: removing it only moves its tasks to the default class


def _schemata(settings: dict[str, object]) -> list[str]:
    lines = [str(settings[key]) for key in ("l3CacheSchema", "memBwSchema") if settings.get(key)]
    more = settings.get("schemata")
    lines += [str(line) for line in more] if isinstance(more, list) else []
    return [part for line in lines for part in line.splitlines() if part]


def _make(directory: str) -> None:
    try:
        os.mkdir(directory, 0o755)
    except OSError as error:
        raise HostError(f"linux.intelRdt: {directory}: {error.strerror}", "the processor has only so many classes of service") from None


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"linux.intelRdt: write {text!r} to {path}: {error.strerror}") from None

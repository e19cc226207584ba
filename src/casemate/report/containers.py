"""All containers below a state root, with what each uses: `casemate ps` without an id."""

from __future__ import annotations

import shlex
import time

from casemate.errors import CgroupError, ContainerError, ContainerNotFound
from casemate.jsonlite import JsonError
from casemate.report.table import show_table
from casemate.runtime import store
from casemate.runtime.container import STOPPED, Container

_HEADINGS = ["ID", "NAME", "ISOLATION", "STATUS", "PID", "CREATED", "MEMORY", "PIDS", "COMMAND"]
_STYLES = {"running": "green", "stopped": "dim", "paused": "yellow", "created": "cyan", "creating": "cyan", "damaged": "red"}
_MAX_COMMAND = 60
_EMPTY: dict[str, object] = {
    "id": "", "name": "", "isolation": "", "status": "", "pid": 0, "created": "", "memory": None, "pids": None, "command": [],
}  # fmt: skip
_AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def containers(root: str) -> list[dict[str, object]]:
    """A row per container: id, name, isolation, status, pid, created (RFC 3339), memory (bytes), pids, command (arguments).

    status: as the state verb has it, or "damaged" where the state cannot be read. Of a container that has ended, pid is 0.
    memory and pids are null where nothing counts them.
    """
    rows: list[dict[str, object]] = []
    for container_id in store.list_ids(root):
        try:
            with Container.open(root, container_id) as container:
                rows.append(_row(container))
        except ContainerNotFound:
            continue  # deleted meanwhile, or a create that is not yet, or never will be, recorded
        except ContainerError:
            rows.append(_EMPTY | {"id": container_id, "status": "damaged"})
    return rows


def show_containers(rows: list[dict[str, object]]) -> None:
    """The rows as a table."""
    now = time.time()
    show_table(_HEADINGS, [_cells(row, now) for row in rows], _STYLES)


def _row(container: Container) -> dict[str, object]:
    record = container.record
    status = container.status()
    memory, pids = (None, None) if status == STOPPED else _usage(container)
    return {
        "id": record.id,
        "name": record.name,
        "isolation": record.isolation,
        "status": status,
        "pid": 0 if status == STOPPED else record.pid,
        "created": record.created,
        "memory": memory,
        "pids": pids,
        "command": _command(container),
    }


def _usage(container: Container) -> tuple[int | None, int | None]:
    try:
        manager = container.cgroup()
        memory = _inner(manager.stats(), "memory", "usage", "usage")
        return (memory if isinstance(memory, int) and memory else None), len(manager.pids()) or None
    except (CgroupError, OSError):
        return None, None


def _inner(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _command(container: Container) -> list[str]:
    try:
        arguments = _inner(container.spec(), "process", "args")
    except (ContainerNotFound, JsonError, OSError):
        return []
    return [str(word) for word in arguments] if isinstance(arguments, list) else []


def _cells(row: dict[str, object], now: float) -> list[str]:
    command = row["command"]
    line = shlex.join(command) if isinstance(command, list) else ""
    return [
        str(row["id"]),
        str(row["name"]) or "-",
        str(row["isolation"]) or "-",
        str(row["status"]),
        str(row["pid"] or "-"),
        age(str(row["created"]), now),
        size(row["memory"]),
        str(row["pids"] or "-"),
        line if len(line) <= _MAX_COMMAND else line[: _MAX_COMMAND - 3] + "...",
    ]


def age(created: str, now: float) -> str:
    """How long before `now` (seconds since the epoch) an RFC 3339 time was, in its largest unit; `-` for what is no time."""
    from calendar import timegm

    try:
        seconds = max(0, int(now - timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S"))))
    except ValueError:
        return "-"
    return ago(seconds)


def ago(seconds: int) -> str:
    """In the largest unit of which it has one."""
    return next((f"{seconds // length} {unit} ago" for length, unit in _AGES if seconds >= length), "now")


def size(count: object) -> str:
    """Bytes in the unit that leaves one to four digits; `-` for what is not counted."""
    if not isinstance(count, int):
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"

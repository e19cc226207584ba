"""What the host tells of a paused sentry, which answers nobody: its own threads and those of its programs. Needs root to tell calls."""

from __future__ import annotations

import os

from casemate.report.names import NAMES
from casemate.runtime.container import Container


def look(container: Container) -> dict[str, object]:
    """As `control.debug_report`, with what is not known left empty. A thread that ends meanwhile is left out."""
    own = container.record.pid
    depth = len(_status(own).get("NSpid", "").split())
    tasks: list[dict[str, object]] = []
    threads: list[dict[str, object]] = []
    for pid in sorted({own, *container.cgroup().pids(all=True)}):
        for tid in _threads(pid):
            status = _status(tid)
            numbers = status.get("NSpid", "").split()
            # The programs' pid namespace lies below the sentry's.
            if len(numbers) > depth:
                tasks.append(_task(tid, status, depth))
            elif pid == own and status:
                threads.append({"tid": tid, "name": status["Name"], "state": status["State"][:1], "channel": _channel(tid), "handles": "", "stack": []})
    return {"is_stuck": False, "left_out": 0, "tasks": tasks, "threads": threads, "files": [], "mappings": []}


def _task(tid: int, status: dict[str, str], depth: int) -> dict[str, object]:
    inside, number = status["NStgid"].split()[-1], status["NSpid"].split()[-1]
    parent = _status(int(status["PPid"])).get("NSpid", "").split()
    ppid = parent[-1] if len(parent) > depth else "0"
    row: dict[str, object] = {"pid": int(inside), "tid": int(number), "ppid": int(ppid), "state": "paused", "name": status["Name"]}
    return row | {"call": _call(tid), "channel": _channel(tid), "left_ms": -1, "pending": "", "blocked": ""}


def _call(tid: int) -> str:
    number = _read(f"/proc/{tid}/syscall").split(" ")[0]
    return NAMES.get(int(number), number) if number.isdecimal() else ""


def _channel(tid: int) -> str:
    channel = _read(f"/proc/{tid}/wchan")
    return "" if channel == "0" else channel


def _status(tid: int) -> dict[str, str]:
    lines = _read(f"/proc/{tid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _threads(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip()
    except OSError:  # it has ended, or only root may know
        return ""

"""`casemate events ID`."""

from __future__ import annotations

import select
import time

from casemate import jsonlite
from casemate.cli.options import FLAG, VALUE, Option
from casemate.cli.verb import open_container, read
from casemate.errors import UsageError
from casemate.runtime.container import CREATED, PAUSED, RUNNING, Container
from casemate.runtime.usage import oom_kills, stats

HELP = "Shows a container's statistics and out-of-memory kills, one JSON object per line; or how often it made which system call."
OPTIONS = [
    Option("stats", FLAG, "print the statistics once and end"),
    Option("interval", VALUE, "the time between statistics (default 5s)", "TIME"),
    Option("syscalls", FLAG, "with isolation sentry: how often each system call was made and failed, since the start; once"),
    Option("format f", VALUE, "of --syscalls: table (default) or json", "FORMAT"),
    Option("json", FLAG, "the same as --format json"),
]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="events [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    form = parsed.value("format", "json" if parsed.flag("json") else "table")
    if form not in ("table", "json"):
        raise UsageError(f"--format: expected table or json, got {form!r}")
    interval = duration_s(parsed.value("interval", "5s"))
    with open_container(parsed.arguments[0]) as container:
        container.need("show events of", CREATED, RUNNING, PAUSED)
        if parsed.flag("syscalls"):
            container.need("count the calls of", RUNNING)
            _show_syscalls(container, form)
        elif parsed.flag("stats"):
            _print_event(container, "stats", stats(container))
        else:
            _follow(container, interval)
    return 0


def _show_syscalls(container: Container, form: str) -> None:
    from casemate.report.syscalls import HEAD, cells
    from casemate.report.table import show_table
    from casemate.runtime.control import count_syscalls

    counts = count_syscalls(container)
    if form == "json":
        print(jsonlite.dumps(counts, indent=2))
        return
    calls, unseen = counts["calls"], counts["unseen"]
    assert isinstance(calls, list)
    assert isinstance(unseen, list)
    calls.sort(key=lambda row: -row["calls"])
    show_table(HEAD, [cells(row) for row in calls])
    missing = sorted(row["name"] for row in calls if row["refused"])
    if missing:
        print(f"\nNot there (ENOSYS): {' '.join(missing)}")
    print(f"\nNot counted, since the host answers them, some only with certain arguments: {' '.join(unseen)}")


def duration_s(text: str) -> float:
    """Go's duration (5s, 100ms, 1m) in seconds. Raises UsageError."""
    unit = "ms" if text.endswith("ms") else text[-1:]
    try:
        value = float(text.removesuffix(unit)) * _UNITS[unit]
    except (ValueError, KeyError):
        raise UsageError(f"--interval: expected a time such as 5s or 100ms, got {text!r}") from None
    if value <= 0:
        raise UsageError(f"--interval: expected more than 0, got {text!r}")
    return value


def _follow(container: Container, interval: float) -> None:
    """Prints until the container has ended."""
    from casemate.host import process

    manager = container.cgroup()
    pidfd = process.open_pidfd(container.record.pid, container.record.start_time)
    if pidfd is None:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    kills = oom_kills(container)
    next_stats = time.monotonic()
    while True:
        if time.monotonic() >= next_stats:
            _print_event(container, "stats", stats(container))
            next_stats += interval
        # An OOM kill is counted by the kernel, so asking each second loses none; a notification would cost a descriptor per hierarchy.
        wait_s = min(1.0, max(0.0, next_stats - time.monotonic()))
        ended = bool(poll.poll(wait_s * 1000))
        now = manager.oom_kills() if ended else oom_kills(container)
        if now > kills:
            _print_event(container, "oom", None)
            kills = now
        if ended:
            return


def _print_event(container: Container, kind: str, data: object) -> None:
    event = {"type": kind, "id": container.id}
    if data is not None:
        event["data"] = data  # type: ignore[assignment]
    print(jsonlite.dumps(event), flush=True)

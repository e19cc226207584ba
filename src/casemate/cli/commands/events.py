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

HELP = "Shows a container's statistics and out-of-memory kills, one JSON object per line."
OPTIONS = [
    Option("stats", FLAG, "print the statistics once and end"),
    Option("interval", VALUE, "the time between statistics (default 5s)", "TIME"),
]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="events [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    interval = duration_s(parsed.value("interval", "5s"))
    with open_container(parsed.arguments[0]) as container:
        container.need("show events of", CREATED, RUNNING, PAUSED)
        if parsed.flag("stats"):
            _print_event(container, "stats", stats(container))
        else:
            _follow(container, interval)
    return 0


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

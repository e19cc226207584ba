"""`casemate debug ID`: what a container's programs and its kernel are doing, where that kernel is ours (isolation sentry)."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.options import FLAG, VALUE, Option
from casemate.cli.verb import open_container, read
from casemate.errors import UsageError
from casemate.runtime.container import PAUSED, RUNNING, Container
from casemate.runtime.control import debug_report, require_sentry

HELP = "Shows threads and what they wait for, the sentry's own threads, open files and mappings: all, or what is named."
SECTIONS = {
    "tasks": "the programs' threads: state, the call that each is in and what it waits for",
    "threads": "the sentry's own threads: where each stands, with its stack",
    "files": "open files",
    "mappings": "memory",
}
OPTIONS = [
    *(Option(name, FLAG, text) for name, text in SECTIONS.items()),
    Option("format f", VALUE, "table (default) or json", "FORMAT"),
    Option("json", FLAG, "the same as --format json"),
]
_COLUMNS = {
    "tasks": ("pid", "tid", "ppid", "state", "name", "call", "channel", "left_ms", "pending", "blocked"),
    "threads": ("tid", "name", "state", "channel", "handles"),
    "files": ("pid", "fd", "flags", "position", "name"),
    "mappings": ("pid", "start", "end", "permissions", "offset", "name"),
}
_HEXADECIMAL = ("start", "end", "offset")


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="debug [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    form = parsed.value("format", "json" if parsed.flag("json") else "table")
    if form not in ("table", "json"):
        raise UsageError(f"--format: expected table or json, got {form!r}")
    chosen = [name for name in SECTIONS if parsed.flag(name)] or list(SECTIONS)
    with open_container(parsed.arguments[0]) as container:
        is_paused = container.need("look into", RUNNING, PAUSED) == PAUSED
        report = _from_outside(container) if is_paused else debug_report(container)
        if "threads" in chosen:
            _name_frames(report["threads"], container.record.pid)
    shown = {"is_paused": is_paused, "is_stuck": report["is_stuck"], "left_out": report["left_out"], **{name: report[name] for name in chosen}}
    if form == "json":
        print(jsonlite.dumps(shown, indent=2))
    else:
        _show(shown, chosen)
    return 0


def _from_outside(container: Container) -> dict[str, object]:
    """A paused one answers nobody."""
    from casemate.report.frozen import look

    require_sentry(container)
    return look(container)


def _name_frames(threads: object, pid: int) -> None:
    """Addresses of the sentry's code become the names of its functions. They are the engine's own and are told as they are."""
    from casemate.report.symbols import Symbols

    assert isinstance(threads, list)
    symbols = Symbols(pid)
    for thread in threads:
        thread["stack"] = [symbols.name(address) for address in thread["stack"]]


def _show(report: dict[str, object], chosen: list[str]) -> None:
    from casemate.report.table import show_table

    if report["is_paused"]:
        print("The container is paused: told is what the host knows; neither files nor mappings, nor what calls wait for.\n")
    if report["is_stuck"]:
        print("The kernel has been busy with one call for 2 s (see the sentry's threads); tasks, files and mappings cannot be told.\n")
    for name in chosen:
        rows = report[name]
        assert isinstance(rows, list)
        print(f"{name.upper()} ({len(rows)})")
        columns = _COLUMNS[name]
        show_table([column.upper() for column in columns], [[_cell(column, row[column]) for column in columns] for row in rows])
        if name == "threads":
            _show_stacks(rows)
        print()
    if report["left_out"]:
        print(f"{report['left_out']} further rows were left out.")


def _show_stacks(threads: list[dict[str, object]]) -> None:
    for thread in threads:
        frames = thread["stack"]
        assert isinstance(frames, list)
        if frames:
            print(f"\nstack of {thread['tid']}, {thread['name']}:")
        for frame in frames:
            print(f"    {frame}")


def _cell(column: str, value: object) -> str:
    if column in _HEXADECIMAL:
        return f"{value:x}"
    if column == "left_ms":
        return "" if value == -1 else str(value)
    return "" if value in ("[]", "") else str(value)

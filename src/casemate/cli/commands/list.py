"""`casemate list`."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.commands.state import state_document
from casemate.cli.main import Globals
from casemate.cli.options import FLAG, VALUE, Option
from casemate.cli.verb import read
from casemate.errors import ContainerError, UsageError
from casemate.runtime import store
from casemate.runtime.container import Container

HELP = "Lists the containers below --root."
OPTIONS = [
    Option("format f", VALUE, "table (default) or json", "FORMAT"),
    Option("quiet q", FLAG, "ids only"),
]
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="list [options]", help=HELP, least=0, most=0)
    if parsed is None:
        return 0
    form = parsed.value("format", "table")
    if form not in ("table", "json"):
        raise UsageError(f"--format: expected table or json, got {form!r}")
    if parsed.flag("quiet"):
        print("".join(f"{name}\n" for name in store.list_ids(Globals.root)), end="")
        return 0
    rows = _rows()
    if form == "json":
        print(jsonlite.dumps(rows) if rows else "null")
    else:
        _print_table(rows)
    return 0


def _rows() -> list[dict[str, object]]:
    rows = []
    for container_id in store.list_ids(Globals.root):
        try:
            with Container.open(Globals.root, container_id) as container:
                row = state_document(container)
                row["owner"] = _user_name(container.record.owner_uid)
                rows.append(row)
        except ContainerError:
            continue  # deleted meanwhile, or a create that is not yet, or never will be, recorded
    return rows


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _print_table(rows: list[dict[str, object]]) -> None:
    cells = [[name.upper() for name in _COLUMNS]] + [[str(row[name]) for name in _COLUMNS] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
    for line in cells:
        print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

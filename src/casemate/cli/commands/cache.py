"""`casemate cache list|remove|prune`: what is kept to start virtual machines sooner."""

from __future__ import annotations

import time

from casemate import jsonlite
from casemate.cli.options import FLAG, VALUE, Option, Parsed
from casemate.cli.verb import read
from casemate.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.guest.kept import Kept

HELP = (
    "Lists and removes what is kept to start virtual machines sooner: images of root directories (`do --rootfs`), templates of machines, the agent's file "
    "systems. All of it is made again when it is needed, and the oldest go by themselves. Kernels are apart: `casemate kernel`."
)
OPTIONS = [
    Option("json", FLAG, "list: print JSON"),
    Option("unused", VALUE, "prune: only what was not used for so many days", "DAYS"),
]
_USAGE = "cache list|remove|prune [NAME...]"
_HEADINGS = ["KIND", "NAME", "SIZE", "LAST USED", "OF"]
_DAY_S = 86400
_LEAST_NAME = 6  # letters that stand for a name, if no other begins so


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage=_USAGE, help=HELP, least=1, most=1000)
    if parsed is None:
        return 0
    action, *names = parsed.arguments
    if action == "list" and not names:
        return _list(parsed.flag("json"))
    if action == "remove" and names:
        return _remove(names)
    if action == "prune" and not names:
        return _prune(_seconds(parsed))
    raise UsageError("usage: casemate cache list, cache remove NAME..., or cache prune [--unused DAYS]")


def _list(as_json: bool) -> int:
    from casemate.guest import kept

    rows = kept.everything()
    if as_json:
        print(
            jsonlite.dumps([{"kind": one.kind, "name": one.name, "path": one.path, "bytes": one.size, "used": one.used, "origin": one.origin} for one in rows])
        )
        return 0
    from casemate.report.containers import ago, size
    from casemate.report.table import show_table

    now = time.time()
    show_table(_HEADINGS, [[one.kind, one.name, size(one.size), ago(max(int(now - one.used), 0)), one.origin] for one in rows])
    print(f"\n{size(sum(one.size for one in rows))} in all")
    return 0


def _remove(names: list[str]) -> int:
    from casemate.guest import kept

    rows = kept.everything()
    # All are looked for before one goes.
    for one in [_find(rows, name) for name in names]:
        kept.remove(one)
        print(one.name)
    return 0


def _find(rows: list[Kept], name: str) -> Kept:
    found = [one for one in rows if one.name == name] or [one for one in rows if len(name) >= _LEAST_NAME and one.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    what = f"{name!r} begins the names of {len(found)}" if found else f"there is no {name!r}"
    raise UsageError(f"cache remove: {what}; `casemate cache list` shows the names")


def _prune(unused_s: float) -> int:
    from casemate.guest import kept
    from casemate.report.containers import size

    kept.remove_unfinished()
    now = time.time()
    gone = [one for one in kept.everything() if now - one.used >= unused_s]
    for one in gone:
        kept.remove(one)
        print(one.name)
    print(f"{size(sum(one.size for one in gone))} in all")
    return 0


def _seconds(parsed: Parsed) -> float:
    if not parsed.given("unused"):
        return float("-inf")  # also what a clock that was set back has used in the future
    try:
        days = float(parsed.value("unused"))
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise UsageError(f"--unused: expected a number of days, got {parsed.value('unused')!r}")
    return days * _DAY_S

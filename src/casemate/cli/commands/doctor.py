"""`casemate doctor`: what this host can do, and what to change."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.main import Globals
from casemate.cli.options import FLAG, Option
from casemate.cli.verb import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.report.row import Row

HELP = "Says what this host can do and what to change. Exit code 0 if sandboxes of the default isolation can run, else 1."
OPTIONS = [
    Option("json", FLAG, "print JSON"),
]
_STYLES = {"ok": "green", "limited": "yellow", "missing": "red"}


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="doctor [options]", help=HELP, least=0, most=0)
    if parsed is None:
        return 0
    from casemate.report import doctor

    default = Globals.isolation or doctor.default_isolation()
    host = doctor.host_rows(Globals.root)
    isolations = doctor.isolation_rows(Globals.root, default)
    is_ready = any(row.name == f"isolation {default}" and row.status != "missing" for row in isolations)
    if parsed.flag("json"):
        print(_json(host, isolations, default, is_ready))
    else:
        _show([*host, *isolations], default, is_ready)
    return 0 if is_ready else 1


def _json(host: list[Row], isolations: list[Row], default: str, is_ready: bool) -> str:
    rows = [
        {"name": row.name, "status": row.status, "why": row.why, "remedy": row.remedy, "needed": row.needed, "isolation": row in isolations}
        for row in [*host, *isolations]
    ]
    return jsonlite.dumps({"ready": is_ready, "default": default, "rows": rows}, indent=2)


def _show(rows: list[Row], default: str, is_ready: bool) -> None:
    from casemate.report.table import show_table

    show_table(["WHAT", "STATUS", "WHY", "WHAT TO DO"], [[row.name, row.status, row.why, row.remedy] for row in rows], _STYLES, wrapped=2)
    print(f"\nSandboxes can run here (isolation {default})." if is_ready else f"\nSandboxes cannot run here (isolation {default}).")

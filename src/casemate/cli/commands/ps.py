"""`casemate ps ID [ps options]`."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.options import VALUE, Option
from casemate.cli.verb import open_container, read
from casemate.errors import CasemateError, UsageError
from casemate.runtime.container import CREATED, PAUSED, RUNNING

HELP = "Lists the processes of a container."
OPTIONS = [
    Option("format f", VALUE, "table (default) or json", "FORMAT"),
]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="ps [options] ID [PS OPTION...]", help=HELP, least=1, most=1 << 10, command=True)
    if parsed is None:
        return 0
    with open_container(parsed.arguments[0]) as container:
        container.need("list the processes of", CREATED, RUNNING, PAUSED)
        pids = container.cgroup().pids(all=True) or [container.record.pid]
    form = parsed.value("format", "table")
    if form == "json":
        print(jsonlite.dumps(pids))
    elif form == "table":
        _print_table(set(pids), parsed.arguments[1:] or ["-ef"])
    else:
        raise UsageError(f"--format: expected table or json, got {form!r}")
    return 0


def _print_table(pids: set[int], options: list[str]) -> None:
    import subprocess

    done = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CasemateError(f"ps {' '.join(options)}: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    try:
        column = lines[0].split().index("PID")
    except (IndexError, ValueError):
        raise CasemateError("ps: the options give no PID column") from None
    print(lines[0])
    for line in lines[1:]:
        if int(line.split()[column]) in pids:
            print(line)

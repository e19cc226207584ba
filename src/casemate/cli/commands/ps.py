"""`casemate ps`: all containers; `casemate ps ID [ps options]`: the processes of one, as runc's."""

from __future__ import annotations

import os

from casemate import jsonlite
from casemate.cli.main import Globals
from casemate.cli.options import FLAG, VALUE, Option
from casemate.cli.verb import open_container, read
from casemate.errors import CasemateError, UsageError
from casemate.runtime.collect import collect
from casemate.runtime.container import CREATED, PAUSED, RUNNING
from casemate.runtime.control import has_control, list_processes

HELP = "Lists all containers, or the processes of one."
OPTIONS = [
    Option("format f", VALUE, "table (default) or json", "FORMAT"),
    Option("json", FLAG, "the same as --format json"),
]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="ps [options] [ID [PS OPTION...]]", help=HELP, least=0, most=1 << 10, command=True)
    if parsed is None:
        return 0
    form = parsed.value("format", "json" if parsed.flag("json") else "table")
    if form not in ("table", "json"):
        raise UsageError(f"--format: expected table or json, got {form!r}")
    if not parsed.arguments:
        collect(Globals.root)
        return _all_containers(form)
    with open_container(parsed.arguments[0]) as container:
        if container.need("list the processes of", CREATED, RUNNING, PAUSED) == RUNNING and has_control(container):
            return _sandbox_processes(list_processes(container), form)
        pids = container.cgroup().pids(all=True) or [container.record.pid]
    if form == "json":
        print(jsonlite.dumps(pids))
    else:
        _print_table(set(pids), parsed.arguments[1:] or ["-ef"])
    return 0


def _sandbox_processes(rows: list[dict[str, object]], form: str) -> int:
    """Of a sandbox with a kernel of its own: the pids are those of inside, and ps(1) knows nothing of them."""
    if form == "json":
        print(jsonlite.dumps([row["pid"] for row in rows]))
        return 0
    print(f"{'UID':>8} {'PID':>7} {'PPID':>7} S {'TIME':>9} CMD")
    for row in rows:
        seconds = int(str(row["cpu_ms"])) // 1000
        time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        print(f"{row['uid']:>8} {row['pid']:>7} {row['ppid']:>7} {row['state']} {time:>9} {row['command']}")
    return 0


def _all_containers(form: str) -> int:
    from casemate.report.containers import containers, show_containers

    rows = containers(Globals.root)
    if form == "json":
        print(jsonlite.dumps(rows, indent=2))
    else:
        show_containers(rows)
    return 0


def _print_table(pids: set[int], options: list[str]) -> None:
    lines = _output_of_ps(options).splitlines()
    try:
        column = lines[0].split().index("PID")
    except (IndexError, ValueError):
        raise CasemateError("ps: the options give no PID column") from None
    print(lines[0])
    for line in lines[1:]:
        if int(line.split()[column]) in pids:
            print(line)


def _output_of_ps(options: list[str]) -> str:
    """What ps(1) prints; its errors go to standard error as they are. (subprocess's import costs 11 ms.)"""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawnp("ps", ["ps", *options], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    except FileNotFoundError:
        os.close(reader)
        raise CasemateError("ps is not installed (package procps); --format json needs none") from None
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as output:
        text = output.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise CasemateError(f"ps {' '.join(options)} failed")
    return text

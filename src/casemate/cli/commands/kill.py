"""`casemate kill [--all] ID [SIGNAL]`."""

from __future__ import annotations

from casemate.cli.options import FLAG, Option
from casemate.cli.verb import open_container, read
from casemate.runtime.kill import kill, signal_number

HELP = "Sends a signal (default TERM) to a container's first process."
OPTIONS = [Option("all a", FLAG, "send it to all processes of the container")]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="kill [options] ID [SIGNAL]", help=HELP, least=1, most=2)
    if parsed is None:
        return 0
    signal = signal_number(parsed.arguments[1] if len(parsed.arguments) > 1 else "TERM")
    with open_container(parsed.arguments[0]) as container:
        kill(container, signal, all_processes=parsed.flag("all"))
    return 0

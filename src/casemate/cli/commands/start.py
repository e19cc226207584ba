"""`casemate start ID`."""

from __future__ import annotations

from casemate.cli.verb import open_container, read
from casemate.runtime.start import start

HELP = "Starts the program of a created container."


def main(arguments: list[str]) -> int:
    parsed = read(arguments, [], usage="start ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    with open_container(parsed.arguments[0], lock=True) as container:
        start(container)
    return 0

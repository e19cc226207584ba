"""`casemate resume ID`."""

from __future__ import annotations

from casemate.cli.verb import open_container, read
from casemate.runtime.container import PAUSED
from casemate.runtime.usage import resume

HELP = "Resumes all processes of a container."


def main(arguments: list[str]) -> int:
    parsed = read(arguments, [], usage="resume ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    with open_container(parsed.arguments[0], lock=True) as container:
        container.need("resume", PAUSED)
        resume(container)
    return 0

"""`casemate delete [--force] ID`."""

from __future__ import annotations

import sys

from casemate.cli.main import Globals
from casemate.cli.options import FLAG, Option
from casemate.cli.verb import read
from casemate.errors import ContainerNotFound
from casemate.runtime.delete import delete

HELP = "Deletes a stopped or created container and all that belongs to it."
OPTIONS = [Option("force f", FLAG, "delete it in any state (SIGKILL); no error if it does not exist")]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="delete [--force] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    try:
        warnings = delete(Globals.root, parsed.arguments[0], force=parsed.flag("force"))
    except ContainerNotFound:
        if not parsed.flag("force"):
            raise
        return 0
    for warning in warnings:
        print(f"casemate: warning: {warning}", file=sys.stderr)
    return 0

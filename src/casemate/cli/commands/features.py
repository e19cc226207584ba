"""`casemate features`."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.verb import read
from casemate.oci.features import features

HELP = "Prints what this build supports of the OCI runtime specification, as JSON."


def main(arguments: list[str]) -> int:
    if read(arguments, [], usage="features", help=HELP, least=0, most=0) is not None:
        print(jsonlite.dumps(features(), indent=2))
    return 0

"""`casemate spec`."""

from __future__ import annotations

import os

from casemate import jsonlite
from casemate.cli.options import FLAG, VALUE, Option
from casemate.cli.verb import read
from casemate.errors import UsageError
from casemate.oci.template import template

HELP = "Writes a config.json to start from."
OPTIONS = [
    Option("bundle b", VALUE, "the bundle's directory (default: here)", "DIR"),
    Option("rootless", FLAG, "for a container that is started without root"),
]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="spec [options]", help=HELP, least=0, most=0)
    if parsed is None:
        return 0
    path = os.path.join(parsed.value("bundle", "."), "config.json")
    rootless = parsed.flag("rootless")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise UsageError(f"{path} exists; remove it first") from None
    with os.fdopen(fd, "w") as file:
        file.write(jsonlite.dumps(template(rootless), indent=4) + "\n")
    return 0

"""`casemate create ID`."""

from __future__ import annotations

from casemate.cli.bundle import OPTIONS, has_terminal, request_from
from casemate.cli.verb import read
from casemate.errors import UsageError
from casemate.runtime.create import create
from casemate.runtime.delete import destroy
from casemate.runtime.pid_file import write_pid_file

HELP = "Creates a container from a bundle; its program waits for `start`."


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="create [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    request = request_from(parsed)
    if has_terminal(request.spec) != (request.console is not None):
        raise UsageError("process.terminal and --console-socket go together in create: one without the other is given")
    container = create(request)
    try:
        if parsed.value("pid-file"):
            write_pid_file(parsed.value("pid-file"), container.record.pid)
    except OSError:
        destroy(container)
        raise
    container.close()
    return 0

"""`casemate run ID`."""

from __future__ import annotations

from casemate.cli.bundle import OPTIONS, has_terminal, request_from
from casemate.cli.foreground import Foreground
from casemate.cli.options import FLAG, Option
from casemate.cli.verb import read
from casemate.errors import UsageError
from casemate.runtime.create import create
from casemate.runtime.pid_file import write_pid_file

HELP = "Creates a container, starts its program, waits for its end and deletes it."
RUN_OPTIONS = [
    *OPTIONS,
    Option("detach d", FLAG, "return once the program runs"),
    Option("keep", FLAG, "keep the container after its program ended"),
]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, RUN_OPTIONS, usage="run [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    detach = parsed.flag("detach")
    request = request_from(parsed)
    terminal = has_terminal(request.spec)
    if detach and terminal and request.console is None:
        raise UsageError("--detach with process.terminal needs --console-socket")
    foreground = Foreground()
    if terminal and request.console is None:
        request.console = foreground.take_master
    request.at_once = True
    if parsed.value("pid-file"):
        request.recorded = lambda pid: write_pid_file(parsed.value("pid-file"), pid)
    container = create(request)
    from casemate.runtime.delete import destroy  # meanwhile loaded

    try:
        if not container.is_started:
            from casemate.runtime.start import start

            if request.recorded:
                request.recorded(container.record.pid)
            start(container)
    except BaseException:
        destroy(container)
        raise
    if detach:
        container.close()
        return 0
    # Others may pause, signal or exec into it while it runs.
    container.unlock()
    status = foreground.wait(container.record.pid)
    container.entry.lock()
    if not parsed.flag("keep"):
        destroy(container)
    container.close()
    return status.shell_code

"""`casemate`: reads the global options, finds the verb's module, reports errors as runc does.

This is the lean path: an OCI verb is a process of its own each time, so nothing is imported here that the verb does not need
(tests/unit/cli/test_lean_imports.py holds the list).
"""

from __future__ import annotations

import _signal
import os
import sys

from casemate.cli.options import FLAG, STRACE, VALUE, Option, help_text, parse
from casemate.errors import CasemateError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.cli.options import Parsed
    from casemate.runtime.strace import Strace

VERBS = {
    "do": "run a command now in a sandbox of its own, with no image",
    "create": "create a container from a bundle",
    "start": "start the program of a created container",
    "run": "create and start a container",
    "state": "print a container's state",
    "kill": "send a signal to a container",
    "delete": "delete a container",
    "exec": "run a further process in a container",
    "list": "list containers",
    "ps": "list all containers, or the processes of one",
    "logs": "print what a container in the background wrote",
    "pause": "suspend all processes of a container",
    "resume": "resume a paused container",
    "update": "change a container's resource limits",
    "events": "show a container's events and statistics, and how often it makes which system call",
    "debug": "show what a container's programs and its kernel are doing, with isolation sentry",
    "kernel": "install, build, list, verify and remove the kernels that virtual machines boot",
    "cache": "list and remove what is kept to start virtual machines sooner",
    "vmm": "run a virtual machine on KVM with Firecracker's options and API, in a jail",
    "doctor": "say what this host can do, and what to change",
    "surface": "count the system calls of the host that a sandbox can reach",
    "spec": "write a config.json to start from",
    "features": "print the OCI features of this build",
}
OPTIONS = [
    Option("root", VALUE, "the directory of containers' state (default /run/casemate, or below XDG_RUNTIME_DIR)", "DIR"),
    Option("log", VALUE, "also write errors to this file", "FILE"),
    Option("log-format", VALUE, "the log file's format: text (default) or json", "FORMAT"),
    Option("debug", FLAG, "show the whole chain of an error"),
    Option("systemd-cgroup", FLAG, "let systemd manage cgroups; cgroupsPath is then slice:prefix:name"),
    Option("rootless", VALUE, "true, false or auto (default): without root's privileges", "MODE"),
    Option("isolation", VALUE, "the isolation of new containers; over annotation and configuration", "NAME"),
    *STRACE,
    Option("v version", FLAG, "print the version"),
]
_OWN_FAILURE = {"do": 125, "exec": 255}  # docker's; runc's


class Globals:
    """The global options, for the verbs."""

    debug = False
    isolation = ""
    log = ""
    log_format = "text"
    root = ""
    rootless = "auto"
    strace: Strace | None = None
    systemd_cgroup = False


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        # A starter that ignores it (a daemon that wants no zombies) would have the host reap the children that this process waits for.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    verb = ""
    try:
        parsed = parse(words, [*OPTIONS, Option("h help", FLAG, "")], interspersed=False)
        if parsed.flag("v"):
            return _print_version()
        if not parsed.arguments or parsed.arguments[0] == "help" or parsed.flag("h"):
            print(usage())
            return 0
        verb = parsed.arguments[0]
        _read_globals(parsed)
        if verb not in VERBS:
            raise UsageError(f"unknown command {verb!r}; `casemate --help` lists them")
        return _verb(verb)(parsed.arguments[1:])
    except CasemateError as error:
        _report(str(error), error)
        return getattr(error, "exit_code_for_verb", None) or _OWN_FAILURE.get(verb, error.exit_code)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        _report(_os_error(error), error)
        return _OWN_FAILURE.get(verb, 1)


def usage() -> str:
    """The text of `casemate --help`."""
    text = help_text("casemate [global options] COMMAND [arguments]", "Runs programs you do not trust.", OPTIONS)
    return text + "\n\nCommands:\n" + "\n".join(f"  {verb:<10}{line}" for verb, line in VERBS.items())


def _verb(verb: str) -> Callable[[list[str]], int]:
    module = __import__(f"casemate.cli.commands.{verb}", fromlist=["main"])
    main: Callable[[list[str]], int] = module.main
    return main


def _read_globals(parsed: object) -> None:
    from casemate.runtime.store import default_root

    Globals.root = os.path.abspath(parsed.value("root") or default_root())  # type: ignore[attr-defined]
    Globals.log = parsed.value("log")  # type: ignore[attr-defined]
    Globals.log_format = parsed.value("log-format", "text")  # type: ignore[attr-defined]
    Globals.debug = parsed.flag("debug")  # type: ignore[attr-defined]
    Globals.systemd_cgroup = parsed.flag("systemd-cgroup")  # type: ignore[attr-defined]
    Globals.rootless = parsed.value("rootless", "auto")  # type: ignore[attr-defined]
    Globals.isolation = parsed.value("isolation")  # type: ignore[attr-defined]
    Globals.strace = _strace(parsed)  # type: ignore[arg-type]
    if Globals.log_format not in ("text", "json"):
        raise UsageError(f"--log-format: expected text or json, got {Globals.log_format!r}")
    if Globals.rootless not in ("true", "false", "auto"):
        raise UsageError(f"--rootless: expected true, false or auto, got {Globals.rootless!r}")


def _strace(parsed: Parsed) -> Strace | None:
    if not any(parsed.given(option.names[0]) for option in STRACE):
        return None
    from casemate.cli.strace import strace_from

    return strace_from(parsed)


def is_rootless() -> bool:
    """Whether to do without root's privileges: as `--rootless` says, else by the effective user."""
    return Globals.rootless == "true" or (Globals.rootless == "auto" and os.geteuid() != 0)


def _print_version() -> int:
    from casemate import __version__

    print(f"casemate version {__version__}\nspec: 1.2.1")
    return 0


def _os_error(error: OSError) -> str:
    place = f" {error.filename!r}" if error.filename else ""
    return f"{error.strerror or error}{place}"


def _report(message: str, error: BaseException) -> None:
    """One line on stderr, and the same as a record in the log file, where engines look for the reason."""
    line = message.replace("\n", " ")
    if Globals.debug:
        import traceback

        traceback.print_exception(error)
    print(f"casemate: {line}", file=sys.stderr)
    if Globals.log:
        from casemate.cli.log_file import append_error

        append_error(Globals.log, Globals.log_format, line)


if __name__ == "__main__":
    # As `python -m`, this module is not the `casemate.cli.main` that the verbs import their globals from.
    sys.exit(__import__("casemate.cli.main", fromlist=["main"]).main())

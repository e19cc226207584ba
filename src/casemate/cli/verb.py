"""What the OCI verbs' modules share: reading their arguments and finding their container."""

from __future__ import annotations

from casemate.cli.main import Globals
from casemate.cli.options import FLAG, Option, Parsed, help_text, parse
from casemate.errors import UsageError
from casemate.runtime.container import Container

_HELP = Option("h help", FLAG, "show this help")


def read(arguments: list[str], options: list[Option], *, usage: str, help: str, least: int, most: int, command: bool = False) -> Parsed | None:
    """The parsed arguments, or None after printing the help. `command`: what follows the first positional is a command's.

    Raises UsageError for an unknown option or the wrong number of positional arguments.
    """
    parsed = parse(arguments, [*options, _HELP], interspersed=not command)
    if parsed.flag("h"):
        print(help_text(f"casemate {usage}", help, options))
        return None
    count = len(parsed.arguments)
    if count < least or count > most:
        raise UsageError(f"usage: casemate {usage}")
    return parsed


def open_container(container_id: str, *, lock: bool = False) -> Container:
    """The container of this id below `--root`. Raises ContainerNotFound."""
    return Container.open(Globals.root, container_id, lock=lock)

"""`casemate state ID`."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.verb import open_container, read
from casemate.errors import CasemateError
from casemate.runtime.container import STOPPED, Container

HELP = "Prints a container's state as JSON."


def main(arguments: list[str]) -> int:
    parsed = read(arguments, [], usage="state ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    with open_container(parsed.arguments[0]) as container:
        document = state_document(container)
        if document["status"] == STOPPED and (kills := _oom_kills(container)):
            document["oomKills"] = kills
        print(jsonlite.dumps(document, indent=2))
    return 0


def _oom_kills(container: Container) -> int:
    """How often the kernel, a guest's too, killed for the memory limit's sake. What cannot be read any more is no reason to have no state."""
    from casemate.runtime.usage import oom_kills

    try:
        return oom_kills(container) if container.record.cgroup else 0
    except (CasemateError, OSError):
        return 0


def state_document(container: object) -> dict[str, object]:
    """The state with runc's further fields, as `state` and `list` print it."""
    assert isinstance(container, Container)
    record = container.record
    status = container.status()
    return {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": 0 if status == STOPPED else record.pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "isolation": record.isolation,
        "annotations": record.annotations,
        "owner": "",
    }

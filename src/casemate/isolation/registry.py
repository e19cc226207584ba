"""The isolations of this version. A new one is one file and one line here."""

from __future__ import annotations

from casemate.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.isolation.base import Isolation

DEFAULT = "namespaces"
NAMES = ("namespaces", "sentry", "microvm")


def get(name: str) -> Isolation:
    """The isolation of this name. Raises HostError for one that this version has not."""
    if name == "namespaces":
        from casemate.isolation.namespaces import Namespaces

        return Namespaces()
    if name == "sentry":
        from casemate.isolation.sentry import Sentry

        return Sentry()
    if name == "microvm":
        from casemate.isolation.microvm import Microvm

        return Microvm()
    raise HostError(f"isolation {name!r} is not in this version of casemate", f"use one of: {', '.join(NAMES)}")


def require(name: str) -> Isolation:
    """As `get`, and this host can run it; else HostError with the reason and the remedy."""
    isolation = get(name)
    verdict = isolation.probe()
    if not verdict.ok:
        raise HostError(f"isolation {name!r} cannot run on this host: {verdict.reason}", verdict.remedy)
    return isolation

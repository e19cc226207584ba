"""The hypervisors of this version, in the order in which they are tried. A new one is one file and one line here."""

from __future__ import annotations

import os

from casemate.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.base import Hypervisor

NAMES = ("uml", "qemu")
ANNOTATION = "dev.casemate.hypervisor"


def get(name: str) -> Hypervisor:
    """The driver of this name. Raises HostError for one that this version has not."""
    if name == "uml":
        from casemate.hypervisor.uml import Uml

        return Uml()
    if name == "qemu":
        from casemate.hypervisor.qemu import Qemu

        return Qemu()
    raise HostError(f"hypervisor {name!r} is not in this version of casemate", f"use one of: {', '.join(NAMES)}")


def choose(wanted: str = "") -> Hypervisor:
    """The hypervisor that was asked for (here, by CASEMATE_HYPERVISOR or the configuration), else the first that this host can run.

    Raises HostError with what each lacks.
    """
    if not wanted:
        from casemate.configuration import configured

        wanted = os.environ.get("CASEMATE_HYPERVISOR") or str(configured("hypervisor") or "")
    if wanted:
        hypervisor = get(wanted)
        verdict = hypervisor.probe()
        if not verdict.ok:
            raise HostError(f"hypervisor {wanted!r} cannot run on this host: {verdict.reason}", verdict.remedy)
        return hypervisor
    reasons = []
    for name in NAMES:
        hypervisor = get(name)
        verdict = hypervisor.probe()
        if verdict.ok:
            return hypervisor
        reasons.append(f"{name}: {verdict.reason} ({verdict.remedy})")
    raise HostError("no hypervisor can run on this host: " + "; ".join(reasons), "run `casemate kernel install`")

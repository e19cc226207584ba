"""The hypervisors of this version, and the order in which they are tried. A new one is one file and one line here."""

from __future__ import annotations

import os

from casemate.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.base import Hypervisor

NAMES = ("uml", "qemu", "casemate")
# Where KVM is real it beats a kernel as a process, and the small monitor the large one.
_WITH_KVM = ("casemate", "qemu", "uml")
ANNOTATION = "dev.casemate.hypervisor"


class Choice:
    """A hypervisor that can run here, and why it was taken. by_probe: nobody named it."""

    __slots__ = ("by_probe", "hypervisor", "why")

    def __init__(self, hypervisor: Hypervisor, why: str, *, by_probe: bool = False) -> None:
        self.hypervisor = hypervisor
        self.why = why
        self.by_probe = by_probe


def get(name: str) -> Hypervisor:
    """The driver of this name. Raises HostError for one that this version has not."""
    if name == "uml":
        from casemate.hypervisor.uml import Uml

        return Uml()
    if name == "qemu":
        from casemate.hypervisor.qemu import Qemu

        return Qemu()
    if name == "casemate":
        from casemate.hypervisor.casemate import Casemate

        return Casemate()
    raise HostError(f"hypervisor {name!r} is not in this version of casemate", f"use one of: {', '.join(NAMES)}")


def order() -> tuple[str, ...]:
    """All of them, the first to be tried first."""
    from casemate.hypervisor import kvm

    return _WITH_KVM if kvm.is_real() else NAMES


def choose(wanted: str = "") -> Choice:
    """The hypervisor that was asked for (here, by CASEMATE_HYPERVISOR or the configuration), else the first that this host can run. Raises HostError with what
    each lacks, and what to run.
    """
    name, who = _named(wanted)
    if name:
        hypervisor = get(name)
        verdict = hypervisor.probe()
        if not verdict.ok:
            raise HostError(f"hypervisor {name!r} cannot run on this host: {verdict.reason}", verdict.remedy)
        return Choice(hypervisor, who)
    lacking: list[str] = []
    for name in order():
        hypervisor = get(name)
        verdict = hypervisor.probe()
        if verdict.ok:
            passed_over = "".join(f"; {reason}" for reason in lacking)
            return Choice(hypervisor, f"the first that can run here: {hypervisor.merit}{passed_over}", by_probe=True)
        lacking.append(f"{name}: {verdict.reason}")
    raise HostError("no hypervisor can run on this host: " + "; ".join(lacking), f"run `casemate kernel install {installable()}`")


def installable(wanted: str = "") -> str:
    """What `casemate kernel install` has to be given for a hypervisor to run here; "" if that would not be enough."""
    name, _ = _named(wanted)
    return next((kernel for candidate in ([name] if name else order()) if (kernel := get(candidate).kernel_to_install())), "")


def _named(wanted: str) -> tuple[str, str]:
    """The hypervisor that somebody named, and who; empty if nobody did."""
    if wanted:
        return wanted, "asked for by name"
    if os.environ.get("CASEMATE_HYPERVISOR"):
        return os.environ["CASEMATE_HYPERVISOR"], "named by CASEMATE_HYPERVISOR"
    from casemate.configuration import configured

    return str(configured("hypervisor") or ""), "named by the configuration"

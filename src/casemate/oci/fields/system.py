"""Names, sysctls, masked and read-only paths, and what this host may not have. Source: config-linux.md."""

from __future__ import annotations

import os

from casemate.errors import SpecError
from casemate.oci.checks import shown
from casemate.oci.plan import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.plan import PlanBuilder

    Object = dict[str, object]

_IPC_SYSCTLS = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced")


def lower(spec: Object, linux: Object, plan: PlanBuilder) -> None:
    """One operation each."""
    kinds = {entry["type"] for entry in linux.get("namespaces") or []}  # type: ignore[attr-defined]
    for key in ("hostname", "domainname"):
        if spec.get(key):
            if "uts" not in kinds:
                raise _wrong(plan, key, spec[key], "a uts namespace to go with it: it would change the host's")
            plan.add(Phase.NAMES, key, value=spec[key])
    for key, value in (linux.get("sysctl") or {}).items():  # type: ignore[attr-defined]
        plan.add(Phase.SYSCTL, "sysctl", key=_sysctl(str(key), kinds, plan), value=value)
    for path in linux.get("readonlyPaths") or []:  # type: ignore[attr-defined]
        plan.add(Phase.READONLY_PATHS, "readonly_path", path=path)
    for path in linux.get("maskedPaths") or []:  # type: ignore[attr-defined]
        plan.add(Phase.MASKED_PATHS, "mask_path", path=path)
    _unavailable(linux, plan)


def _sysctl(key: str, kinds: set[str], plan: PlanBuilder) -> str:
    """A key whose value belongs to a namespace of the container's; any other would change the host (runc validator.go sysctl)."""
    name = key.replace("/", ".")
    needs = _namespace_of(name)
    place = f"linux.sysctl.{shown(key)}"
    if name == "kernel.hostname":
        raise _wrong(plan, place, key, "the field hostname for it")
    if not needs or ".." in name:
        raise _wrong(plan, place, key, "a sysctl that belongs to an ipc, network, uts or user namespace")
    if needs not in kinds:
        raise _wrong(plan, place, key, f"a {needs} namespace to go with it: it would change the host's")
    return name


def _namespace_of(name: str) -> str:
    """The type of namespace that a sysctl's value belongs to; empty if it is the host's."""
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    if name == "kernel.domainname":
        return "uts"
    for prefix, kind in (("net.", "network"), ("user.", "user")):
        if name.startswith(prefix):
            return kind
    return ""


def _unavailable(linux: Object, plan: PlanBuilder) -> None:
    if linux.get("intelRdt") and not os.path.isdir("/sys/fs/resctrl"):
        raise _wrong(plan, "linux.intelRdt", linux["intelRdt"], "a host with resctrl mounted; this one has none")
    if linux.get("mountLabel") and not plan.context.host.has_selinux:
        raise _wrong(plan, "linux.mountLabel", linux["mountLabel"], "a host with SELinux; this one has none")
    if linux.get("netDevices"):
        raise _wrong(plan, "linux.netDevices", linux["netDevices"], "no devices: moving them is not supported yet")


def _wrong(plan: PlanBuilder, path: str, value: object, expected: str) -> SpecError:
    return SpecError(file=plan.context.config_file, json_path=path, value=value, expected=expected)

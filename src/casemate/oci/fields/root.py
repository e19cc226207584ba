"""root, linux.rootfsPropagation. Source: config.md "Root", config-linux.md "Rootfs Mount Propagation"."""

from __future__ import annotations

from casemate.errors import SpecError
from casemate.oci.fields.mount_options import PROPAGATION
from casemate.oci.plan import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.plan import PlanBuilder

    Object = dict[str, object]

_MS_SLAVE_REC = 1 << 19 | 16384


def lower(spec: Object, linux: Object, plan: PlanBuilder) -> None:
    """Opens the root, pivots, makes it read-only."""
    name = str(linux.get("rootfsPropagation") or "")
    flags = PROPAGATION.get(name, _MS_SLAVE_REC)
    if not any(entry["type"] == "mount" for entry in linux.get("namespaces") or []):  # type: ignore[attr-defined]
        _shared(spec, linux, plan)
        return
    # In the new namespace; the root itself becomes private in `root`, so a shared one is only made so at the end.
    plan.add(Phase.PROPAGATION, "propagation", flags=flags if name else _MS_SLAVE_REC)
    plan.add(Phase.ROOT, "root", path=plan.context.rootfs, overlay=plan.context.overlay)
    plan.add(Phase.PIVOT, "pivot_root", mode="move" if plan.context.no_pivot else "pivot")
    if name:
        plan.add(Phase.ROOT_PROPAGATION, "root_propagation", flags=flags)
    root = spec.get("root")
    if isinstance(root, dict) and root.get("readonly"):
        plan.add(Phase.READONLY_ROOT, "readonly_root")


def _shared(spec: Object, linux: Object, plan: PlanBuilder) -> None:
    """No mount namespace: chroot, and the mounts are the caller's until `delete`. What needs mounts of the container's own is refused (runc validator.go)."""
    root = spec.get("root")
    wanted = {
        "linux.maskedPaths": linux.get("maskedPaths"),
        "linux.readonlyPaths": linux.get("readonlyPaths"),
        "linux.rootfsPropagation": linux.get("rootfsPropagation"),
        "root.readonly": root.get("readonly") if isinstance(root, dict) else None,
    }
    for path, value in wanted.items():
        if value:
            raise SpecError(
                file=plan.context.config_file, json_path=path, value=value, expected="a mount namespace to go with it: it would change the host's mounts"
            )
    plan.add(Phase.ROOT, "root", path=plan.context.rootfs, shared=True)
    plan.add(Phase.PIVOT, "pivot_root", mode="chroot")

"""root, linux.rootfsPropagation. Source: config.md "Root", config-linux.md "Rootfs Mount Propagation"."""

from __future__ import annotations

from casemate.errors import HostError
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
    has_mount_namespace = any(entry["type"] == "mount" for entry in linux.get("namespaces") or [])  # type: ignore[attr-defined]
    if not has_mount_namespace:
        raise HostError("linux.namespaces without mount: the container's mounts would be the host's", "add a mount namespace")
    # In the new namespace; the root itself becomes private in `root`, so a shared one is only made so at the end.
    plan.add(Phase.PROPAGATION, "propagation", flags=flags if name else _MS_SLAVE_REC)
    plan.add(Phase.ROOT, "root", path=plan.context.rootfs, overlay=plan.context.overlay)
    plan.add(Phase.PIVOT, "pivot_root", mode="move" if plan.context.no_pivot else "pivot")
    if name:
        plan.add(Phase.ROOT_PROPAGATION, "root_propagation", flags=flags)
    root = spec.get("root")
    if isinstance(root, dict) and root.get("readonly"):
        plan.add(Phase.READONLY_ROOT, "readonly_root")

"""Which place a container has in a pod: the annotations that containerd and CRI-O write, read in this one place.

    sandbox     the pod's first container (its "pause"), made first: an isolation that serves pods starts its wall for it (a sentry, a virtual machine)
    container   a further one, which joins the sandbox of the container that `sandbox_id` names, in the same state root
    neither     a sandbox of its own, as without annotations

An isolation that serves pods sets `serves_pods` and has `join` (isolation/base.py). `runtime/pod_sandbox.py` then finds the sandbox's container, checks that it
runs with the same isolation, records its id as `Record.sandbox`, and calls `join(launch, where)` in place of `create(launch)`; `where.control_path` is the
control socket that the sandbox listens on. For `start`, `exec`, `kill` and the rest the member is a container like any other, with its own cgroup, state
directory and first process on the host. With an isolation that does not serve pods (`namespaces`), the annotations change nothing.
"""

from __future__ import annotations

from casemate.errors import SpecError

SANDBOX, CONTAINER = "sandbox", "container"

# (type, id of the sandbox): containerd's, CRI-O's.
_NAMES = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
)


class Place:
    """`kind`: SANDBOX, CONTAINER, or "" outside of a pod.   sandbox_id: of a CONTAINER, the id of the pod's first."""

    __slots__ = ("id_name", "kind", "sandbox_id")

    def __init__(self, kind: str = "", sandbox_id: str = "", id_name: str = "") -> None:
        self.kind = kind
        self.sandbox_id = sandbox_id
        self.id_name = id_name  # the annotation that has it

    def need_sandbox_id(self, file: str) -> str:
        """The id, for an isolation that joins. Raises SpecError where it is missing."""
        if not self.sandbox_id:
            raise SpecError(file=file, json_path=f"annotations.{self.id_name}", expected="the id of the pod's sandbox")
        return self.sandbox_id


def place_in_pod(spec: dict[str, object]) -> Place:
    """What the annotations of a checked specification say."""
    annotations = spec.get("annotations")
    if not isinstance(annotations, dict):
        return Place()
    for kind_name, id_name in _NAMES:
        kind = annotations.get(kind_name)
        if kind == SANDBOX:
            return Place(SANDBOX)
        if kind == CONTAINER:
            return Place(CONTAINER, str(annotations.get(id_name) or ""), id_name)
    return Place()

"""The place of a container in a pod, by the annotations of containerd and CRI-O."""

from __future__ import annotations

import pytest

from casemate.errors import SpecError
from casemate.oci.pods import CONTAINER, SANDBOX, place_in_pod

CONTAINERD = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")
CRIO = ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")


@pytest.mark.parametrize(("kind", "sandbox_id"), [CONTAINERD, CRIO])
def test_sandbox_and_container(kind: str, sandbox_id: str) -> None:
    first = place_in_pod({"annotations": {kind: "sandbox", sandbox_id: "pod1"}})
    assert (first.kind, first.sandbox_id) == (SANDBOX, "")
    further = place_in_pod({"annotations": {kind: "container", sandbox_id: "pod1"}})
    assert (further.kind, further.sandbox_id) == (CONTAINER, "pod1")


@pytest.mark.parametrize("annotations", [None, {}, {"a": "b"}, {CONTAINERD[0]: "something else"}])
def test_outside_of_pods(annotations: object) -> None:
    assert place_in_pod({"annotations": annotations}).kind == ""


def test_a_container_without_sandbox_is_refused() -> None:
    with pytest.raises(SpecError, match=r"annotations.io.kubernetes.cri.sandbox-id: expected the id of the pod's sandbox"):
        place_in_pod({"annotations": {CONTAINERD[0]: "container"}}).need_sandbox_id("config.json")

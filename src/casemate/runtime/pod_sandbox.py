"""The first container of a pod, whose sandbox others join."""

from __future__ import annotations

from casemate.errors import ContainerNotFound, HostError
from casemate.runtime import store
from casemate.runtime.container import RUNNING, Container


def open_sandbox(state_root: str, sandbox_id: str) -> Container:
    """A pod's first container. Raises HostError if there is none."""
    try:
        return Container.open(state_root, store.check_id(sandbox_id))
    except ContainerNotFound:
        raise HostError(f"no container {sandbox_id!r} below {state_root}, whose sandbox is to be joined", "create and start the pod's sandbox first") from None


def need_sandbox(sandbox: Container, isolation: str) -> None:
    """Raises HostError if it cannot be joined with this isolation, now."""
    record = sandbox.record
    if record.isolation != isolation:
        raise HostError(f"the pod's sandbox {sandbox.id!r} has the isolation {record.isolation!r}", f"use it for this container, too, not {isolation!r}")
    status = sandbox.status()
    if status != RUNNING:
        raise HostError(f"the pod's sandbox {sandbox.id!r} is {status}", "create and start it first")

"""`create`: from a checked specification to a process that waits for `start`.

Order, so that a kill at any instant leaves something `delete --force` can finish:
the directory, the record (with the cgroup to come), the cgroup, the process (recorded while it waits at its first barrier), `created`.
"""

from __future__ import annotations

from casemate.errors import CasemateError, UsageError
from casemate.isolation import registry
from casemate.runtime import store
from casemate.runtime.container import Container, now_rfc3339
from casemate.runtime.creation import Creation
from casemate.runtime.request import CreateRequest, choose_isolation


def create(request: CreateRequest) -> Container:
    """Creates a container and returns it locked and open. On any error nothing is left behind.

    Raises ContainerExists, SpecError, HostError, CgroupError, EngineError, HookError.
    """
    isolation = registry.require(choose_isolation(request))
    entry = store.reserve(request.state_root, request.container_id)
    record = _new_record(request, isolation.name)
    container = Container(entry, record)
    try:
        Creation(request, container).run()
    except BaseException as error:
        limit = exceeded_memory_limit(container) if request.at_once and isinstance(error, CasemateError | ProcessLookupError) else 0
        _undo(container)
        if limit:
            raise memory_too_small(limit) from None
        raise
    return container


def exceeded_memory_limit(container: Container) -> int:
    """The memory limit in bytes, if it is why a container's first process did not come to its program; else 0."""
    from casemate.runtime import usage

    try:
        linux = container.spec().get("linux")
        resources = linux.get("resources") if isinstance(linux, dict) else None
        memory = resources.get("memory") if isinstance(resources, dict) else None
        limit = memory.get("limit") if isinstance(memory, dict) else None
        return limit if isinstance(limit, int) and limit > 0 and usage.oom_kills(container) else 0
    except (CasemateError, OSError):
        return 0


def memory_too_small(limit: int) -> UsageError:
    return UsageError(f"memory: the limit of {limit} bytes is too small to start a program: out of memory")


def _new_record(request: CreateRequest, isolation: str) -> store.Record:
    record = store.Record(request.container_id)
    record.isolation = isolation
    record.bundle = request.bundle
    record.created = now_rfc3339()
    record.scratch = request.scratch
    record.subuid = request.subuid
    record.name = request.name
    record.oci_version = str(request.spec.get("ociVersion") or record.oci_version)
    annotations = request.spec.get("annotations")
    record.annotations = dict(annotations) if isinstance(annotations, dict) else {}
    return record


def _undo(container: Container) -> None:
    from casemate.runtime.delete import destroy

    try:
        destroy(container)
    except (OSError, CasemateError):
        pass  # the first error is the one to show; `delete --force` can try again, the record is there
    finally:
        container.close()

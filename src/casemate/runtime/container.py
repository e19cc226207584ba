"""A container as the verbs see it: its record, its status, its specification, its cgroup."""

from __future__ import annotations

import os
import time

from casemate import jsonlite
from casemate.errors import ContainerError, ContainerNotFound, ContainerStateError
from casemate.host import process
from casemate.runtime import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.host.cgroup import Manager

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"


class Container:
    """A container that exists below a state root. Holds its directory open until `close`."""

    def __init__(self, entry: store.Entry, record: store.Record) -> None:
        self.entry = entry
        self.record = record
        self.is_started = False  # `create` has started it, too
        self._manager: Manager | None = None
        self._spec: dict[str, object] | None = None

    @classmethod
    def open(cls, root: str, container_id: str, *, lock: bool = False) -> Container:
        """Finds a container. With `lock`, waits until no other command changes it. Raises ContainerNotFound."""
        entry = store.open_entry(root, container_id)
        if lock:
            entry.lock()
            if not os.path.isdir(entry.path):
                entry.close()
                raise ContainerNotFound(container_id)
        record = entry.load()
        if record is None:
            entry.close()
            raise ContainerNotFound(container_id)
        return cls(entry, record)

    def close(self) -> None:
        self.entry.close()

    def unlock(self) -> None:
        """Lets other commands change the container while this one only waits for it."""
        self.entry.unlock()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def id(self) -> str:
        return self.record.id

    def status(self) -> str:
        """creating, created, running, paused or stopped: derived from the kernel's view, never from a file that could be stale."""
        if not self.record.pid:
            return STOPPED if self.entry.lock(wait=False) else CREATING
        if not self.is_alive():
            return STOPPED
        if self.entry.exists(store.START_SOCKET):
            return CREATED
        return PAUSED if self.record.cgroup and self.cgroup().frozen() else RUNNING

    def is_alive(self) -> bool:
        """Whether the first process runs; a zombie does not."""
        record = self.record
        if not record.pid or not process.is_same(record.pid, record.start_time):
            return False
        return process.state(record.pid) not in ("Z", "X", "")

    def need(self, verb: str, *allowed: str) -> str:
        """The status, if it is one of `allowed`. Raises ContainerStateError."""
        status = self.status()
        if status not in allowed:
            raise ContainerStateError(self.id, verb, status, " or ".join(allowed))
        return status

    def store_spec(self, spec: dict[str, object]) -> None:
        self.entry.write(store.CONFIG_FILE, jsonlite.dumps(spec).encode())
        self._spec = spec

    def spec(self) -> dict[str, object]:
        """The specification as it was at create: checked then, so trusted now."""
        if self._spec is None:
            self._spec = self._read_spec()
        return self._spec

    def _read_spec(self) -> dict[str, object]:
        try:
            value = jsonlite.loads(self.entry.read(store.CONFIG_FILE))
        except jsonlite.JsonError as error:
            raise self._damaged(str(error)) from None
        if not isinstance(value, dict):
            raise self._damaged("not an object")
        return value

    def _damaged(self, reason: str) -> ContainerError:
        return ContainerError(self.id, f"the stored specification of container {self.id!r} is damaged ({reason}): delete --force removes the container")

    def cgroup(self) -> Manager:
        if self._manager is None:
            from casemate.host.cgroup import Manager

            self._manager = Manager.from_state(self.record.cgroup)
        return self._manager

    def state(self, status: str | None = None) -> dict[str, object]:
        """The OCI state (runtime.md, "State"), for hooks, seccomp agents and, with more fields, the `state` verb."""
        status = status or self.status()
        record = self.record
        result: dict[str, object] = {"ociVersion": record.oci_version, "id": record.id, "status": status}
        if status != STOPPED:
            result["pid"] = record.pid
        result["bundle"] = record.bundle
        if record.annotations:
            result["annotations"] = record.annotations
        return result


def now_rfc3339() -> str:
    """The time now, in UTC, with nanoseconds, as the engines parse it."""
    now = time.time_ns()
    base = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    return f"{base}.{now % 1_000_000_000:09d}Z"

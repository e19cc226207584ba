"""Removes what killed callers left: sandboxes of `do` and the SDK whose first process is gone.

A sandbox is its caller's to delete. A caller that was killed cannot, so the next command of ours does. Cheap enough to run at every start: one stat mostly.
"""

from __future__ import annotations

import os
import time

from casemate.errors import CasemateError, ContainerNotFound
from casemate.runtime import store
from casemate.runtime.container import CREATED, Container
from casemate.runtime.delete import destroy

PREFIXES = ("do-", "sbx-", "run-")
_INTERVAL_S = 5.0
_MARK = ".collected"


def collect(root: str, *, now: float | None = None) -> list[str]:
    """Removes dead sandboxes below a state root, unless that was done within the last 5 s; returns their ids. `now`: as time.time()."""
    mark = os.path.join(root, _MARK)
    now = time.time() if now is None else now
    try:
        if 0 <= now - os.stat(mark).st_mtime < _INTERVAL_S:
            return []
    except OSError:
        pass
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.utime(mark, (now, now))
    except OSError:
        return []
    return [container_id for container_id in store.list_ids(root) if container_id.startswith(PREFIXES) and _collect_one(root, container_id)]


def _collect_one(root: str, container_id: str) -> bool:
    try:
        entry = store.open_entry(root, container_id)
    except (ContainerNotFound, OSError):
        return False
    try:
        if not entry.lock(wait=False):
            return False  # somebody is at work on it
        record = entry.load()
        if record is None:
            entry.remove()
            return True
        container = Container(entry, record)
        # `created` with nobody holding the lock: the caller died before it could start it.
        if container.is_alive() and container.status() != CREATED:
            return False
        destroy(container)
        return True
    except (CasemateError, OSError):
        return False  # delete --force tells why
    finally:
        entry.close()

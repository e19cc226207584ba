"""Control groups: v1, v2, and both at once (hybrid)."""

from __future__ import annotations

from casemate.host.cgroup.manager import Manager
from casemate.host.cgroup.opening import open_manager

__all__ = ["Manager", "open_manager"]

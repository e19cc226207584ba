"""A container's directory in one hierarchy."""

from __future__ import annotations

from casemate.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.host.cgroup.hierarchy import Hierarchy


class Place:
    """version: 1 or 2.   controllers: of v1; empty of v2.   mount: the hierarchy's mount point.   path: the container's directory."""

    __slots__ = ("controllers", "mount", "path", "version")

    def __init__(self, version: int, controllers: tuple[str, ...], mount: str, path: str) -> None:
        self.version = version
        self.controllers = controllers
        self.mount = mount
        self.path = path

    @classmethod
    def of(cls, hierarchy: Hierarchy, path: str) -> Place:
        return cls(hierarchy.version, hierarchy.controllers, hierarchy.mount, path)

    @property
    def label(self) -> str:
        """How error messages call the hierarchy."""
        return ",".join(self.controllers) or "unified"

    def file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def to_state(self) -> list[object]:
        return [self.version, list(self.controllers), self.mount, self.path]

    @classmethod
    def from_state(cls, value: object) -> Place:
        """Raises CgroupError for what `to_state` did not write."""
        if not isinstance(value, list) or len(value) != 4:
            raise CgroupError("the container's state names no cgroup")
        version, controllers, mount, path = value
        is_path = isinstance(path, str) and isinstance(mount, str) and path.startswith(mount + "/") and mount != ""
        if version not in (1, 2) or not isinstance(controllers, list) or not is_path or ".." in path.split("/"):
            raise CgroupError("the container's state names no cgroup below its mount", path=str(path))
        return cls(version, tuple(str(name) for name in controllers), mount, path)

"""Reads the fields of `linux.resources`, checked, and says what is written for them.

oci.spec has checked config.json's shape; ranges and names that end up in paths are checked again here, where they are used.
"""

from __future__ import annotations

from casemate.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LIST_CHARACTERS = frozenset("0123456789,-:/ ")


class Write:
    """One value for one cgroup file.

    optional: what to do where the file does not exist: nothing if True, else an error that names `field`.
    """

    __slots__ = ("controller", "field", "file", "optional", "value")

    def __init__(self, controller: str, file: str, value: str, field: str, optional: bool = False) -> None:
        self.controller = controller
        self.file = file
        self.value = value
        self.field = field
        self.optional = optional

    def __repr__(self) -> str:
        return f"Write({self.controller!r}, {self.file!r}, {self.value!r}, {self.field!r})"


class Section:
    """One object of `linux.resources`, its fields read with their JSON path at hand."""

    def __init__(self, resources: dict[str, object], name: str) -> None:
        self.path = f"linux.resources.{name}"
        value = resources.get(name)
        if value is not None and not isinstance(value, dict):
            raise CgroupError("expected an object", field=self.path)
        self._values: dict[str, object] = value or {}

    def field(self, name: str) -> str:
        return f"{self.path}.{name}"

    def integer(self, name: str) -> int | None:
        """An integer of 64 bits; None where absent. Raises CgroupError."""
        value = self._values.get(name)
        return None if value is None else as_integer(value, self.field(name))

    def set_integer(self, name: str) -> int:
        """As `integer`; 0, which runc takes for "not given", where absent."""
        return self.integer(name) or 0

    def is_true(self, name: str) -> bool:
        return self._values.get(name) is True

    def cpu_list(self, name: str) -> str:
        """A list such as `0-3,7`; empty where absent. Raises CgroupError."""
        value = self._values.get(name) or ""
        if not isinstance(value, str) or not _LIST_CHARACTERS.issuperset(value):
            raise CgroupError(f"{value!r} is not a list such as 0-3,7", field=self.field(name))
        return value

    def objects(self, name: str) -> list[dict[str, object]]:
        return as_objects(self._values.get(name), self.field(name))

    def devices(self, name: str, value_name: str) -> list[tuple[str, int, str]]:
        """(`major:minor`, value, JSON path) of each entry that has `value_name`."""
        result = []
        for index, entry in enumerate(self.objects(name)):
            path = f"{self.field(name)}[{index}]"
            if entry.get(value_name) is not None:
                major = as_integer(entry.get("major"), f"{path}.major")
                minor = as_integer(entry.get("minor"), f"{path}.minor")
                value = as_integer(entry[value_name], f"{path}.{value_name}")
                result.append((f"{major}:{minor}", value, f"{path}.{value_name}"))
        return result

    def refuse(self, names: tuple[str, ...], reason: str) -> None:
        """Raises CgroupError if one of the fields asks for something: a limit silently not enforced is worse than none."""
        for name in names:
            value = self._values.get(name)
            if value not in (None, False, 0, -1, []):
                raise CgroupError(reason, controller=self.path.rsplit(".", 1)[1], field=self.field(name))


def as_integer(value: object, field: str) -> int:
    """Raises CgroupError unless `value` is an integer of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 64:
        raise CgroupError(f"expected a 64-bit integer, got {str(value)[:40]!r}", field=field)
    return value


def as_objects(value: object, field: str) -> list[dict[str, object]]:
    """Raises CgroupError unless `value` is absent or an array of objects."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise CgroupError("expected an array of objects", field=field)
    return value


def cpuset_writes(cpu: Section) -> list[Write]:
    """`cpu.cpus` and `cpu.mems`; the files are the same in v1 and v2."""
    return [Write("cpuset", f"cpuset.{name}", text, cpu.field(name)) for name in ("cpus", "mems") if (text := cpu.cpu_list(name))]


def hugepage_writes(resources: dict[str, object], limit_file: str, reservation_file: str) -> list[Write]:
    """`hugepageLimits`. The file names have `{}` for the page size (`2MB`)."""
    writes = []
    for index, entry in enumerate(as_objects(resources.get("hugepageLimits"), "linux.resources.hugepageLimits")):
        path = f"linux.resources.hugepageLimits[{index}]"
        size = entry.get("pageSize")
        # The size becomes part of a file's name: `../` would write elsewhere.
        if not isinstance(size, str) or not size[:-2].isdecimal() or size[-2:] not in ("KB", "MB", "GB"):
            raise CgroupError(f"{size!r} is not a page size such as 2MB or 1GB", field=f"{path}.pageSize")
        limit = str(as_integer(entry.get("limit"), f"{path}.limit"))
        writes.append(Write("hugetlb", limit_file.format(size), limit, f"{path}.limit"))
        # Without it a program can reserve (MAP_NORESERVE absent) beyond its limit and be killed by SIGBUS later.
        writes.append(Write("hugetlb", reservation_file.format(size), limit, f"{path}.limit", optional=True))
    return writes


def rdma_writes(resources: dict[str, object]) -> list[Write]:
    """`rdma`: one line of rdma.max per device; the file is the same in v1 and v2."""
    writes = []
    devices = resources.get("rdma") or {}
    if not isinstance(devices, dict):
        raise CgroupError("expected an object", field="linux.resources.rdma")
    for name, limits in devices.items():
        path = f"linux.resources.rdma.{name}"
        if not name or any(character.isspace() for character in name) or not isinstance(limits, dict):
            raise CgroupError(f"{name!r} is not an RDMA device with its limits", field=path)
        parts = [name]
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if limits.get(key) is not None:
                parts.append(f"{word}={as_integer(limits[key], f'{path}.{key}')}")
        writes.append(Write("rdma", "rdma.max", " ".join(parts), path))
    return writes


def check_usage(resources: dict[str, object], file: str, read_current: Callable[[str, str], str | None]) -> None:
    """`memory.checkBeforeUpdate`: refuses a limit below the present usage, instead of having the kernel kill for it."""
    memory = Section(resources, "memory")
    limit = memory.set_integer("limit")
    if limit <= 0 or not memory.is_true("checkBeforeUpdate"):
        return
    usage = read_current("memory", file)
    if usage is not None and usage.isdecimal() and int(usage) > limit:
        raise CgroupError(f"limit {limit} is below the present usage {usage}", controller="memory", field=memory.field("limit"))

"""Where a container's cgroup lies: `linux.cgroupsPath`, checked, as a directory of each hierarchy."""

from __future__ import annotations

from casemate.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.host.cgroup.hierarchy import Hierarchy

_FIELD = "linux.cgroupsPath"
_MAX_NAME = 255
_MAX_PATH = 3000  # leaves room for a file's name below PATH_MAX


def clean(cgroups_path: str | None, container_id: str) -> str:
    """The path without doubled slashes and `.`; absolute stays absolute. None or empty: `/casemate/ID`.

    Raises CgroupError for `..` (it would leave the tree that the caller meant to give), for the root cgroup itself (its limits are
    the whole host's) and for names the kernel refuses.
    """
    if not cgroups_path:
        if "/" in container_id or container_id in ("", ".", ".."):
            raise CgroupError(f"container id {container_id!r} is no cgroup name", field=_FIELD)
        return f"/casemate/{container_id}"
    parts = [part for part in cgroups_path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise CgroupError(f"{cgroups_path!r} has '..'", field=_FIELD, remedy="name the cgroup itself")
    if not parts:
        raise CgroupError(f"{cgroups_path!r} is the root cgroup", field=_FIELD, remedy="name a cgroup below it")
    if "\0" in cgroups_path or "\n" in cgroups_path:
        raise CgroupError(f"{cgroups_path!r} has a NUL or a newline", field=_FIELD)
    if len(cgroups_path.encode()) > _MAX_PATH or max(len(part.encode()) for part in parts) > _MAX_NAME:
        raise CgroupError("a name is longer than 255 bytes or the path than 3000", field=_FIELD)
    joined = "/".join(parts)
    return "/" + joined if cgroups_path.startswith("/") else joined


def directory(hierarchy: Hierarchy, path: str) -> str:
    """The host directory of the clean `path` in a hierarchy: below its mount, or, if relative, below the caller's own cgroup.

    On v2 a relative path goes beside the caller's cgroup, not into it: that one has processes, and a v2 cgroup with processes cannot
    give controllers to its children (cgroup-v2.rst "No Internal Process Constraint"; runc fs2/defaultpath.go).
    """
    if path.startswith("/"):
        return hierarchy.mount + path
    base = hierarchy.own_directory()
    if hierarchy.version == 2 and base != hierarchy.mount:
        base = base[: base.rindex("/")]
    return f"{base}/{path}"


def systemd_unit(cgroups_path: str | None, container_id: str, *, rootless: bool) -> tuple[str, str]:
    """Slice and unit of `slice:prefix:name`; None: the default slice, `casemate-ID.scope`. Raises CgroupError."""
    if not cgroups_path:
        return ("user.slice" if rootless else "system.slice"), f"casemate-{container_id}.scope"
    parts = cgroups_path.split(":")
    if len(parts) != 3 or not parts[2]:
        raise CgroupError(f"{cgroups_path!r} is not what --systemd-cgroup takes", field=_FIELD, remedy="write it as slice:prefix:name")
    slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if rootless else "system.slice")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    for text in (slice_name, unit):
        _check_unit_name(text)
    return slice_name, unit


def slice_directory(slice_name: str) -> str:
    """`/a.slice/a-b.slice` of `a-b.slice` (systemd.slice(5)); empty of the root slice `-.slice`. Raises CgroupError."""
    if slice_name == "-.slice":
        return ""
    stem = slice_name.removesuffix(".slice")
    parts = stem.split("-")
    if not slice_name.endswith(".slice") or "" in parts:
        raise CgroupError(f"{slice_name!r} is not a slice's name", field=_FIELD, remedy="write it as a.slice or a-b.slice")
    names = ["-".join(parts[: count + 1]) + ".slice" for count in range(len(parts))]
    return "".join("/" + name for name in names)


def _check_unit_name(name: str) -> None:
    allowed = all(character.isascii() and (character.isalnum() or character in ":-_.\\@") for character in name)
    if not allowed or len(name) > _MAX_NAME or name.startswith("."):
        raise CgroupError(f"{name!r} is not a systemd unit's name", field=_FIELD)

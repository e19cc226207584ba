"""The border: config.json, process and resources objects are checked here once and trusted afterwards."""

from __future__ import annotations

import os

from casemate import jsonlite
from casemate.errors import SpecError
from casemate.oci.checks import Checker, shown
from casemate.oci.schema import CONFIG, PROCESS, RESOURCES

_MAX_BYTES = 32 << 20
# Of the last check: unknown properties, one line each, for the caller to show.
spec_warnings: list[str] = []


def load_spec(path: str) -> dict[str, object]:
    """Reads and checks a config.json. Raises SpecError (also: not JSON, more than 32 MiB), OSError."""
    return check_spec(load_json(path), path)


def load_json(path: str) -> object:
    """One JSON document from a file, or from standard input for `-`. Raises SpecError (not JSON, more than 32 MiB), OSError."""
    with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise SpecError(file=path, json_path="", expected=f"at most {_MAX_BYTES} bytes")
    try:
        return jsonlite.loads(data)
    except jsonlite.JsonError as error:
        raise SpecError(file=path, json_path="", value=str(error), expected="JSON") from None


def check_spec(value: object, file: str) -> dict[str, object]:
    """The specification, if it is one. Raises SpecError with the path of the field that is wrong."""
    spec = _checked(value, CONFIG, file)
    if spec.get("root") is None:
        raise SpecError(file=file, json_path="root", expected="an object with the path of the root file system")
    _check_mounts(spec, file)
    linux = spec.get("linux")
    if isinstance(linux, dict):
        _check_namespaces(linux, file)
    process = spec.get("process")
    if isinstance(process, dict):
        _check_rlimits(process, file, "process.")
    return spec


def check_process(value: object, file: str) -> dict[str, object]:
    """A process object (exec --process). Raises SpecError."""
    process = _checked(value, PROCESS, file)
    _check_rlimits(process, file, "")
    return process


def check_resources(value: object, file: str) -> dict[str, object]:
    """A linux.resources object (update --resources). Raises SpecError."""
    return _checked(value, RESOURCES, file)


def _checked(value: object, schema: tuple[object, ...], file: str) -> dict[str, object]:
    checker = Checker(file)
    checker.check(value, schema, "")
    spec_warnings[:] = [_warning(file, path, name, known) for path, name, known in checker.unknown[:20]]
    assert isinstance(value, dict)
    return value


def _warning(file: str, path: str, name: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    place = f"{path}.{shown(name)}" if path else shown(name)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{os.path.basename(file)}: {place}: unknown field, ignored{hint}"


def _check_mounts(spec: dict[str, object], file: str) -> None:
    for index, mount in enumerate(spec.get("mounts") or []):  # type: ignore[var-annotated, arg-type]
        if not mount["destination"].startswith("/") and mount["destination"].split("/")[0] == "..":
            raise SpecError(file=file, json_path=f"mounts[{index}].destination", value=mount["destination"], expected="an absolute path")


def _check_namespaces(linux: dict[str, object], file: str) -> None:
    seen = set()
    entries = linux.get("namespaces") or []
    for index, entry in enumerate(entries):  # type: ignore[arg-type, var-annotated]
        kind = entry["type"]
        if kind in seen:
            raise SpecError(file=file, json_path=f"linux.namespaces[{index}].type", value=kind, expected="each type at most once")
        seen.add(kind)
        path = entry.get("path")
        if path and not path.startswith("/"):
            raise SpecError(file=file, json_path=f"linux.namespaces[{index}].path", value=path, expected="an absolute path")
    new_user = any(entry["type"] == "user" and not entry.get("path") for entry in entries)  # type: ignore[attr-defined]
    for key in ("uidMappings", "gidMappings"):
        if new_user and not linux.get(key):
            raise SpecError(file=file, json_path=f"linux.{key}", expected="a mapping: there is a new user namespace")
    if linux.get("timeOffsets") and "time" not in seen:
        raise SpecError(file=file, json_path="linux.timeOffsets", value=linux["timeOffsets"], expected="a time namespace to go with it")


def _check_rlimits(process: dict[str, object], file: str, prefix: str) -> None:
    seen = set()
    for index, limit in enumerate(process.get("rlimits") or []):  # type: ignore[var-annotated, arg-type]
        place = f"{prefix}rlimits[{index}]"
        if limit["type"] in seen:
            raise SpecError(file=file, json_path=f"{place}.type", value=limit["type"], expected="each type at most once")
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise SpecError(file=file, json_path=f"{place}.soft", value=limit["soft"], expected=f"at most the hard limit {limit['hard']}")

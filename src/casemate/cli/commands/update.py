"""`casemate update ID`."""

from __future__ import annotations

from casemate.cli.options import VALUE, Option, Parsed
from casemate.cli.verb import open_container, read
from casemate.errors import UsageError
from casemate.oci.spec import check_resources, load_json
from casemate.runtime.container import CREATED, PAUSED, RUNNING
from casemate.runtime.usage import limit

HELP = "Changes a container's resource limits."
# option: (section, field, whether the value is text)
_FIELDS = {
    "blkio-weight": ("blockIO", "weight", False, "weight, 10 to 1000"),
    "cpu-period": ("cpu", "period", False, "microseconds"),
    "cpu-quota": ("cpu", "quota", False, "microseconds per period; -1: none"),
    "cpu-burst": ("cpu", "burst", False, "microseconds"),
    "cpu-share": ("cpu", "shares", False, "relative weight"),
    "cpu-rt-period": ("cpu", "realtimePeriod", False, "microseconds"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", False, "microseconds"),
    "cpu-idle": ("cpu", "idle", False, "1: idle class"),
    "cpuset-cpus": ("cpu", "cpus", True, "a list, as 0-2,7"),
    "cpuset-mems": ("cpu", "mems", True, "a list, as 0-2,7"),
    "memory": ("memory", "limit", False, "bytes; -1: none"),
    "memory-reservation": ("memory", "reservation", False, "bytes"),
    "memory-swap": ("memory", "swap", False, "bytes of memory and swap together; -1: none"),
    "pids-limit": ("pids", "limit", False, "processes; -1: none"),
}
OPTIONS = [
    Option("resources r", VALUE, "a file with the OCI resources object, or - for standard input", "FILE"),
    *(Option(name, VALUE, text) for name, (_, _, _, text) in _FIELDS.items()),
]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="update [options] ID", help=HELP, least=1, most=1)
    if parsed is None:
        return 0
    resources = load_json(parsed.value("resources")) if parsed.given("resources") else _from_options(parsed)
    checked = dict(check_resources(resources, parsed.value("resources") or "command line"))
    with open_container(parsed.arguments[0], lock=True) as container:
        container.need("update", CREATED, RUNNING, PAUSED)
        spec = container.spec()
        limit(container, checked, _merge(spec, checked))
        container.store_spec(spec)
    return 0


def _from_options(parsed: Parsed) -> dict[str, dict[str, object]]:
    resources: dict[str, dict[str, object]] = {}
    for name, (section, field, is_text, _) in _FIELDS.items():
        if parsed.given(name):
            value: object = parsed.value(name) if is_text else parsed.integer(name)
            resources.setdefault(section, {})[field] = value
    if not resources:
        raise UsageError("update: name at least one limit, or --resources FILE")
    return resources


def _merge(spec: dict[str, object], resources: dict[str, object]) -> dict[str, object]:
    """Puts the new limits into the specification, so that a later partial update starts from them; returns all of its limits."""
    linux = spec.setdefault("linux", {})
    assert isinstance(linux, dict)
    stored: dict[str, object] = linux.setdefault("resources", {})
    for section, values in resources.items():
        old = stored.get(section)
        if isinstance(values, dict) and isinstance(old, dict):
            old.update(values)
        else:
            stored[section] = values
    return stored

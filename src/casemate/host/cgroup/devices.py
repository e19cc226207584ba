"""Device rules: `linux.resources.devices` in order, then the devices that every container has.

A rule's `type` of `a` with a number or with part of `rwm` means both kinds; without, it sets what holds for all devices.
"""

from __future__ import annotations

from casemate.errors import CgroupError
from casemate.host.cgroup.fields import as_integer, as_objects

ANY = -1
_FIELD = "linux.resources.devices"
_MAX_NUMBER = 0x7FFFFFFF  # a device number's halves are 12 and 20 bits; the kernel's parser takes 32


class Rule:
    """allow: or deny.   kind: "a", "b", "c".   major, minor: a number or ANY.   access: letters of "rwm" in this order."""

    __slots__ = ("access", "allow", "kind", "major", "minor")

    def __init__(self, allow: bool, kind: str, major: int, minor: int, access: str) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access

    def is_all(self) -> bool:
        """Whether it decides every access to every device, so that no rule before it counts."""
        return self.kind == "a" and self.major == ANY and self.minor == ANY and self.access == "rwm"


# runc specconv.AllowedDevices, and /dev/console of the runtime-spec's default devices. Not /dev/net/tun, which runc gave until 1.2: with
# CAP_NET_ADMIN in its own network namespace a container could make interfaces nobody asked for. Making a node is always allowed: what
# counts is opening it.
DEFAULT_RULES = (
    Rule(True, "c", ANY, ANY, "m"),
    Rule(True, "b", ANY, ANY, "m"),
    Rule(True, "c", 1, 3, "rwm"),  # null
    Rule(True, "c", 1, 5, "rwm"),  # zero
    Rule(True, "c", 1, 7, "rwm"),  # full
    Rule(True, "c", 1, 8, "rwm"),  # random
    Rule(True, "c", 1, 9, "rwm"),  # urandom
    Rule(True, "c", 5, 0, "rwm"),  # tty
    Rule(True, "c", 5, 1, "rwm"),  # console
    Rule(True, "c", 5, 2, "rwm"),  # ptmx
    Rule(True, "c", 136, ANY, "rwm"),  # pts/*
)


def rules_of(value: object) -> list[Rule]:
    """The rules of `linux.resources.devices` (None: none) and the default ones after them. What no rule names is denied.

    Raises CgroupError with the field.
    """
    rules = [_rule(entry, f"{_FIELD}[{index}]") for index, entry in enumerate(as_objects(value, _FIELD))]
    return [*rules, *DEFAULT_RULES]


def _rule(entry: dict[str, object], field: str) -> Rule:
    allow = entry.get("allow")
    if not isinstance(allow, bool):
        raise CgroupError("expected true or false", controller="devices", field=f"{field}.allow")
    kind = entry.get("type") or "a"
    if kind not in ("a", "b", "c"):
        raise CgroupError(f"expected a, b or c, got {kind!r}", controller="devices", field=f"{field}.type")
    access = entry.get("access") or "rwm"
    if not isinstance(access, str) or not set(access) <= set("rwm"):
        raise CgroupError(f"expected letters of rwm, got {access!r}", controller="devices", field=f"{field}.access")
    ordered = "".join(letter for letter in "rwm" if letter in access)
    return Rule(allow, str(kind), _number(entry, "major", field), _number(entry, "minor", field), ordered)


def _number(entry: dict[str, object], name: str, field: str) -> int:
    value = entry.get(name)
    if value is None:
        return ANY
    number = as_integer(value, f"{field}.{name}")
    if not ANY <= number <= _MAX_NUMBER:
        raise CgroupError(f"expected a device number, got {number}", controller="devices", field=f"{field}.{name}")
    return number

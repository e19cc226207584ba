"""Device rules as writes to v1's devices.allow and devices.deny.

v1 knows one default and exceptions from it, not an ordered list (kernel: security/device_cgroup.c), so the rules are first played through.
"""

from __future__ import annotations

from casemate.errors import CgroupError
from casemate.host.cgroup.devices import ANY, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[str, int, int]


class Whitelist:
    """The state of a v1 devices cgroup: `default_allow`, and what differs from it: (kind, major, minor) -> letters."""

    def __init__(self) -> None:
        self.default_allow = False
        self.exceptions: dict[Key, str] = {}

    def play(self, rule: Rule) -> None:
        """Applies one rule. Raises CgroupError for one that v1 cannot express."""
        if rule.is_all():
            self.default_allow = rule.allow
            self.exceptions = {}
            return
        for kind in ("c", "b") if rule.kind == "a" else (rule.kind,):
            key = (kind, rule.major, rule.minor)
            if rule.allow == self.default_allow:
                self._remove(key, rule.access)
            else:
                self.exceptions[key] = _union(self.exceptions.get(key, ""), rule.access)

    def _remove(self, key: Key, access: str) -> None:
        for other in list(self.exceptions):
            if not set(self.exceptions[other]) & set(access):
                continue
            if _covers(key, other):
                left = "".join(letter for letter in self.exceptions[other] if letter not in access)
                if left:
                    self.exceptions[other] = left
                else:
                    del self.exceptions[other]
            elif _overlaps(key, other):
                # As runc: letting it pass would leave the device with what an earlier, wider rule gave.
                raise CgroupError(
                    f"cgroup v1 cannot make an exception from the wider rule {_text(other, self.exceptions[other])}",
                    controller="devices", field="linux.resources.devices",
                    remedy="name the devices one by one, or use a host with cgroup v2",
                )  # fmt: skip


def lower(rules: list[Rule], current_list: str) -> list[tuple[str, str]]:
    """(file, value) in order: what leads from the state in devices.list (`current_list`) to the rules.

    A change from deny-by-default to deny-by-default writes only differences: `a` first would refuse devices to running programs for a
    moment. From allow-by-default there is no knowing the exceptions, so it starts over.
    """
    target = Whitelist()
    for rule in rules:
        target.play(rule)
    current = _parse(current_list)
    if target.default_allow:
        return [("devices.allow", "a"), *(("devices.deny", _text(*item)) for item in target.exceptions.items())]
    if current is None:
        return [("devices.deny", "a"), *(("devices.allow", _text(*item)) for item in target.exceptions.items())]
    return [
        *_changes("devices.allow", target.exceptions, current),
        *_changes("devices.deny", current, target.exceptions),
    ]


def _changes(file: str, wanted: dict[Key, str], present: dict[Key, str]) -> list[tuple[str, str]]:
    writes = []
    for key, access in wanted.items():
        missing = "".join(letter for letter in access if letter not in present.get(key, ""))
        if missing:
            writes.append((file, _text(key, missing)))
    return writes


def _parse(text: str) -> dict[Key, str] | None:
    """devices.list: lines of `c 1:3 rwm`; None if everything is allowed (`a *:* rwm`)."""
    found: dict[Key, str] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        numbers, _, access = rest.partition(" ")
        major, _, minor = numbers.partition(":")
        if kind == "a":
            return None
        key = (kind, ANY if major == "*" else int(major), ANY if minor == "*" else int(minor))
        found[key] = _union(found.get(key, ""), access)
    return found


def _union(first: str, second: str) -> str:
    return "".join(letter for letter in "rwm" if letter in first or letter in second)


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and all(w in (ANY, n) for w, n in zip(wide[1:], narrow[1:], strict=True))


def _overlaps(first: Key, second: Key) -> bool:
    return first[0] == second[0] and all(a == b or ANY in (a, b) for a, b in zip(first[1:], second[1:], strict=True))


def _text(key: Key, access: str) -> str:
    kind, major, minor = key
    return f"{kind} {'*' if major == ANY else major}:{'*' if minor == ANY else minor} {access}"

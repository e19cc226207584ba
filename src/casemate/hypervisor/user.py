"""The user of a machine: whom its hypervisor is on the host.

Without a user namespace it is drawn, for each machine, from 2^24 ids that nobody has: above those that sandboxes are lent (policy/ids.py). The jailer's are of
them too (crates/vmm/src/jail/options.rs). In a user namespace it is the last id of the container's, which on the host is nobody's as all of them are.
"""

from __future__ import annotations

import os

_FIRST = 0x7F00_0000
_COUNT = 0x00FF_FFFF  # not 2^24: the last id would be the greatest positive number, which some take for none


def own_user(id_maps: object) -> list[int]:
    """User and group, in the container's user namespace if it has one. Where there is one id only, that: it is the starter's."""
    if isinstance(id_maps, dict):
        return [_last(id_maps[key]) for key in ("uid", "gid")] if os.geteuid() == 0 else [0, 0]
    drawn = _FIRST + int.from_bytes(os.urandom(3)) % _COUNT
    return [_mapped(drawn, path) for path in ("/proc/self/uid_map", "/proc/self/gid_map")]


def _last(maps: list[list[int]]) -> int:
    return max(first + size - 1 for first, _, size in maps)


def _mapped(drawn: int, path: str) -> int:
    """The id, or the last that there is, if this process is in a user namespace itself that has not so many."""
    with open(path, encoding="ascii") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    has_it = any(first <= drawn < first + size for first, _, size in rows)
    return drawn if has_it else _last(rows)

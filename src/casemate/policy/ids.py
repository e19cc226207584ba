"""Host ids lent to sandboxes: ranges that no user of the host has, one range each, so that sandboxes are strangers to each other too."""

from __future__ import annotations

import fcntl
import os

from casemate.errors import UsageError

RANGE = 65536
# Above what useradd and systemd hand out (login.defs SUB_UID_MAX 600100000; systemd-nspawn up to 0x6FFFFFFF).
_FIRST = 0x7000_0000
_SLOTS = 3840  # up to 0x7EFFFFFF; what is above is the users' of machines (hypervisor/user.py)

Maps = list[list[int]]  # [first id in the sandbox, first on the host, how many]


class Lent:
    """The ids of one sandbox: how they map, and whom its root is on the host."""

    __slots__ = ("gid", "gid_maps", "uid", "uid_maps")

    def __init__(self, uid_maps: Maps, gid_maps: Maps) -> None:
        self.uid_maps = uid_maps
        self.gid_maps = gid_maps
        self.uid = uid_maps[0][1]
        self.gid = gid_maps[0][1]

    def need(self, uid: int, gid: int) -> None:
        """Raises UsageError where the sandbox has not these ids."""
        for kind, number, maps in (("user", uid, self.uid_maps), ("group", gid, self.gid_maps)):
            if on_host(number, maps) is None:
                has = " and ".join(f"{first} to {first + size - 1}" if size > 1 else str(first) for first, _, size in _joined(maps))
                hint = "" if os.geteuid() == 0 or len(maps) > 1 else "; more need ranges in /etc/subuid and /etc/subgid, and newuidmap"
                raise UsageError(f"user: the sandbox has no {kind} id {number}, only {has}{hint}")


def on_host(number: int, maps: Maps) -> int | None:
    """What an id of the sandbox is on the host; None: the sandbox has it not."""
    return next((host + number - first for first, host, size in maps if first <= number < first + size), None)


def _joined(maps: Maps) -> Maps:
    """Ranges that follow each other in the sandbox as one."""
    joined: Maps = []
    for first, host, size in maps:
        if joined and joined[-1][0] + joined[-1][2] == first:
            joined[-1][2] += size
        else:
            joined.append([first, host, size])
    return joined


def lend(state_root: str) -> Lent:
    """Ids for a new sandbox. Root lends a range of 65,536, each time the next one.

    Anybody else is the sandbox's root themselves; its other ids are those that /etc/subuid and /etc/subgid give them, if newuidmap can map them.
    """
    if os.geteuid() != 0:
        return _own()
    os.makedirs(state_root, 0o711, exist_ok=True)
    fd = os.open(os.path.join(state_root, ".next-ids"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        text = os.read(fd, 32).strip()
        slot = int(text) % _SLOTS if text.isdigit() else 0
        os.pwrite(fd, str(slot + 1).encode().ljust(8, b"\n"), 0)
    finally:
        os.close(fd)
    maps = [[0, _FIRST + slot * RANGE, RANGE]]
    return Lent(maps, maps)


def _own() -> Lent:
    from casemate.host.facts import find_program

    uid, gid = os.geteuid(), os.getegid()
    uids, gids = sub_range("/etc/subuid", uid), sub_range("/etc/subgid", uid)
    if not (uids and gids and find_program("newuidmap") and find_program("newgidmap")):
        return Lent([[0, uid, 1]], [[0, gid, 1]])
    return Lent([[0, uid, 1], [1, uids[0], min(uids[1], RANGE - 1)]], [[0, gid, 1], [1, gids[0], min(gids[1], RANGE - 1)]])


def sub_range(path: str, uid: int) -> tuple[int, int] | None:
    """The first range that subuid(5) gives a user, by number or by name: (first, count)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip().split(":") for line in file]
    except OSError:
        return None
    names = {str(uid)}
    try:
        import pwd

        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    for fields in lines:
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit() and int(fields[2]) > 0:
            return int(fields[1]), int(fields[2])
    return None

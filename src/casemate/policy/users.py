"""Users of a sandbox by name or number, from its root's /etc/passwd and /etc/group, which are a stranger's files."""

from __future__ import annotations

import os
import stat

from casemate.errors import UsageError

_MAX_BYTES = 1 << 20
_MAX_GROUPS = 64
_MAX_ID = (1 << 32) - 2


class User:
    """Whom a program runs as."""

    __slots__ = ("gid", "groups", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups


def find_user(text: str, root: str, *, gid_of_number: int | None = None) -> User:
    """Finds USER[:GROUP], each a name or a number. `root`: the directory that is the sandbox's root.

    A number needs no entry; without a group it gets `gid_of_number` (None: the same number). A name gets its group and its further groups.
    Raises UsageError.
    """
    name, colon, group = text.partition(":")
    if not name or (colon and not group):
        raise UsageError(f"user: expected USER or USER:GROUP, got {text!r}")
    if name.isdecimal() and name.isascii():
        uid = _number(name)
        user = User(uid, uid if gid_of_number is None else gid_of_number, [])
    else:
        user = _by_name(name, root)
    if group:
        user.gid = _number(group) if group.isdecimal() and group.isascii() else _group_by_name(group, root)
        user.groups = []
    return user


def _number(text: str) -> int:
    value = int(text) if len(text) < 11 else _MAX_ID + 1
    if value > _MAX_ID:
        raise UsageError(f"user: {text} is no id: ids end at {_MAX_ID}")
    return value


def _by_name(name: str, root: str) -> User:
    for fields in _entries(root, "passwd"):
        if fields[0] == name and len(fields) >= 4 and _is_id(fields[2]) and _is_id(fields[3]):
            gid = int(fields[3])
            groups = [int(group[2]) for group in _entries(root, "group") if len(group) >= 4 and _is_id(group[2]) and name in group[3].split(",")]
            return User(int(fields[2]), gid, [group for group in groups if group != gid][:_MAX_GROUPS])
    raise UsageError(f"user: {name!r} is not in /etc/passwd of the sandbox's root; a number needs no entry")


def _group_by_name(name: str, root: str) -> int:
    for fields in _entries(root, "group"):
        if fields[0] == name and len(fields) >= 3 and _is_id(fields[2]):
            return int(fields[2])
    raise UsageError(f"user: group {name!r} is not in /etc/group of the sandbox's root; a number needs no entry")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _MAX_ID


def _entries(root: str, name: str) -> list[list[str]]:
    """The lines of a file of the root's /etc, split. No link is followed, nothing but a regular file is read, and no more than 1 MiB."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        etc = os.open(os.path.join(root, "etc"), flags | os.O_DIRECTORY)
        try:
            file = os.open(name, flags | os.O_NONBLOCK, dir_fd=etc)  # a pipe of that name must not make us wait
        finally:
            os.close(etc)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"user: /etc/{name} of the sandbox's root cannot be read: {error.strerror}; give numbers") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise UsageError(f"user: /etc/{name} of the sandbox's root is no file; give numbers")
        with os.fdopen(file, "rb", closefd=False) as opened:
            text = opened.read(_MAX_BYTES).decode("utf-8", "replace")
    finally:
        os.close(file)
    return [line.split(":") for line in text.split("\n")]

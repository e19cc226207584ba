"""Binds that are the sandbox's user's own: an id-mapped mount where the host's owner of what is bound appears as that user, and only there."""

from __future__ import annotations

import os
import stat

from casemate.policy.ids import Lent, Maps, on_host

_IDS = (1 << 32) - 1  # the last number is no id


def owner_maps(source: str, lent: Lent, uid: int, gid: int) -> tuple[Maps, Maps] | None:
    """(uid map, gid map) of a bind's mount: [first id on the disk, first on the host, how many]. None: the bind is shown as it is.

    Started by anybody but root the sandbox's user is the caller, who needs no map. A socket is never given away: whoever owns it may talk to who listens.
    """
    if os.geteuid() != 0:
        return None
    try:
        status = os.stat(source)
    except OSError:
        return None  # the start says so
    user, group = on_host(uid, lent.uid_maps), on_host(gid, lent.gid_maps)
    if user is None or group is None or not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return None
    return _instead(status.st_uid, user), _instead(status.st_gid, group)


def _instead(owner: int, lent: int) -> Maps:
    """All ids as they are, but for `owner`, who appears as `lent`. (What is not mapped could be written by nobody: other owners stay who they are.)"""
    if owner == lent:
        return [[0, 0, _IDS]]
    low, high = sorted((owner, lent))
    maps = [[0, 0, low], [low + 1, low + 1, high - low - 1], [high + 1, high + 1, _IDS - high - 1], [owner, lent, 1]]
    return sorted(entry for entry in maps if entry[2] > 0)

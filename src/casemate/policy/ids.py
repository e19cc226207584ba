"""Host ids lent to sandboxes: ranges that no user of the host has, one range each, so that sandboxes are strangers to each other too."""

from __future__ import annotations

import fcntl
import os

RANGE = 65536
# Above what useradd and systemd hand out (login.defs SUB_UID_MAX 600100000; systemd-nspawn up to 0x6FFFFFFF).
_FIRST = 0x7000_0000
_SLOTS = 4096


def lend_range(state_root: str) -> tuple[int, int]:
    """(first id, count) for a new sandbox. Root lends a range of 65,536, each time the next one; anybody else only has their own id."""
    if os.geteuid() != 0:
        return os.geteuid(), 1
    os.makedirs(state_root, 0o711, exist_ok=True)
    fd = os.open(os.path.join(state_root, ".next-ids"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        text = os.read(fd, 32)
        slot = int(text) % _SLOTS if text.strip().isdigit() else 0
        os.pwrite(fd, str(slot + 1).encode().ljust(8, b"\n"), 0)
    finally:
        os.close(fd)
    return _FIRST + slot * RANGE, RANGE

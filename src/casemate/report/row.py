"""One line of `casemate doctor`."""

from __future__ import annotations

from dataclasses import dataclass

OK, LIMITED, MISSING = "ok", "limited", "missing"


@dataclass(frozen=True)
class Row:
    """What was looked at, how it is (OK, LIMITED, MISSING), why, and what to change; `needed`: no sandbox without it."""

    name: str
    status: str
    why: str = ""
    remedy: str = ""
    needed: bool = False


def either(name: str, is_ok: bool, *, why: str = "", otherwise: str = "", remedy: str = "", status: str = MISSING, needed: bool = False) -> Row:
    """OK with `why`, or `status` with `otherwise` and `remedy`."""
    return Row(name, OK, why, needed=needed) if is_ok else Row(name, status, otherwise, remedy, needed)

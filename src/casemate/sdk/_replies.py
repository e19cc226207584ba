"""The border to the agent: what it answers is checked here once, since a program may have taken it over.

No input or output here: requests are built, answers are read into types.
"""

from __future__ import annotations

import errno as errors
import posixpath
from datetime import UTC, datetime

from casemate.errors import FileNotFound, NotPermitted, SandboxError, WireError
from casemate.sdk.types import EntryInfo, FileType, ProcessInfo

Message = dict[str, object]

_KINDS = {"file": FileType.FILE, "dir": FileType.DIR, "symlink": FileType.SYMLINK}
_MOST_NS = 253_402_300_799_000_000_000  # the year 9999, where datetime ends


def integer(message: Message, key: str) -> int:
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WireError(f"the agent's answer has no integer {key!r}")
    return value


def optional_integer(message: Message, key: str) -> int | None:
    return None if message.get(key) is None else integer(message, key)


def text(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise WireError(f"the agent's answer has no text {key!r}")
    return value


def flag(message: Message, key: str) -> bool:
    value = message.get(key)
    if not isinstance(value, bool):
        raise WireError(f"the agent's answer has no boolean {key!r}")
    return value


def mapping(value: object) -> Message:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WireError("the agent's answer is not a map where one is due")
    return value


def sequence(message: Message, key: str) -> list[object]:
    value = message.get(key)
    if not isinstance(value, list):
        raise WireError(f"the agent's answer has no list {key!r}")
    return value


def check(message: Message) -> Message:
    """The answer, if it says ok. Raises FileNotFound, NotPermitted or SandboxError, which carry errno."""
    if flag(message, "ok"):
        return message
    number = integer(message, "errno")
    reason = text(message, "message")[:500]
    kind = {errors.ENOENT: FileNotFound, errors.EACCES: NotPermitted, errors.EPERM: NotPermitted}.get(number, SandboxError)
    raise kind(reason, number)


def entry(path: str, status: Message) -> EntryInfo:
    """`path`: absolute."""
    target = status.get("target")
    mtime = max(0, min(integer(status, "mtime_ns"), _MOST_NS))
    return EntryInfo(
        name=posixpath.basename(path) or "/",
        path=path,
        type=_KINDS.get(text(status, "type"), FileType.OTHER),
        size=integer(status, "size"),
        mode=integer(status, "mode"),
        uid=integer(status, "uid"),
        gid=integer(status, "gid"),
        modified_time=datetime.fromtimestamp(mtime // 1_000_000_000, UTC).replace(microsecond=mtime // 1000 % 1_000_000),
        symlink_target=target if isinstance(target, str) else None,
    )


def process(value: object) -> ProcessInfo:
    message = mapping(value)
    return ProcessInfo(integer(message, "pid"), [str(word) for word in sequence(message, "args")], text(message, "cwd"), flag(message, "terminal"))


def argument(value: str, what: str) -> str:
    """A string from the caller that may go to the agent. Raises SandboxError for one that no system call could take."""
    if not isinstance(value, str) or "\0" in value:
        raise SandboxError(f"{what}: expected a text without NUL, got {value!r}", errors.EINVAL)
    return value


def environment(values: dict[str, str]) -> list[str]:
    """["NAME=value"]. Raises SandboxError for a name that is none."""
    for name in values:
        if not name or "=" in name:
            raise SandboxError(f"environment: {name!r} is no name of a variable", errors.EINVAL)
    return [argument(f"{name}={value}", "environment") for name, value in values.items()]

"""casemate: secure containers behind one interface.

from casemate import Sandbox

with Sandbox.create(memory="512M") as sandbox:
    sandbox.files.write("script.py", "print(6 * 7)")
    print(sandbox.commands.run("python3 script.py").stdout)

Names are imported when they are first used: a verb of the command line must not pay for the SDK.
"""

from __future__ import annotations

__version__ = "0.1.0"

_TYPES = (
    "CommandResult", "EntryInfo", "EventType", "FileType", "FilesystemEvent", "Metrics", "ProcessInfo", "PtySize", "SandboxInfo", "WriteEntry",
)  # fmt: skip
_ERRORS = (
    "CasemateError", "CgroupError", "CommandError", "CommandExit", "CommandTimeout", "EngineError", "FileNotFound", "HostError", "KilledByPolicy",
    "NotPermitted", "OutOfMemory", "SandboxError", "SandboxNotFound",
)  # fmt: skip
_PLACES = {
    "Sandbox": "casemate.sdk.sandbox",
    "CommandHandle": "casemate.sdk.commands",
    "WatchHandle": "casemate.sdk.watch",
    "AsyncSandbox": "casemate.sdk.aio.sandbox",
    "AsyncCommandHandle": "casemate.sdk.aio.commands",
    "AsyncWatchHandle": "casemate.sdk.aio.watch",
    "run": "casemate.sdk.oneshot",
    **dict.fromkeys(_TYPES, "casemate.sdk.types"),
    **dict.fromkeys(_ERRORS, "casemate.errors"),
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.errors import (
        CasemateError,
        CgroupError,
        CommandError,
        CommandExit,
        CommandTimeout,
        EngineError,
        FileNotFound,
        HostError,
        KilledByPolicy,
        NotPermitted,
        OutOfMemory,
        SandboxError,
        SandboxNotFound,
    )
    from casemate.sdk.aio.commands import AsyncCommandHandle
    from casemate.sdk.aio.sandbox import AsyncSandbox
    from casemate.sdk.aio.watch import AsyncWatchHandle
    from casemate.sdk.commands import CommandHandle
    from casemate.sdk.oneshot import run
    from casemate.sdk.sandbox import Sandbox
    from casemate.sdk.types import (
        CommandResult,
        EntryInfo,
        EventType,
        FilesystemEvent,
        FileType,
        Metrics,
        ProcessInfo,
        PtySize,
        SandboxInfo,
        WriteEntry,
    )

__all__ = [
    "AsyncCommandHandle",
    "AsyncSandbox",
    "AsyncWatchHandle",
    "CasemateError",
    "CgroupError",
    "CommandError",
    "CommandExit",
    "CommandHandle",
    "CommandResult",
    "CommandTimeout",
    "EngineError",
    "EntryInfo",
    "EventType",
    "FileNotFound",
    "FileType",
    "FilesystemEvent",
    "HostError",
    "KilledByPolicy",
    "Metrics",
    "NotPermitted",
    "OutOfMemory",
    "ProcessInfo",
    "PtySize",
    "Sandbox",
    "SandboxError",
    "SandboxInfo",
    "SandboxNotFound",
    "WatchHandle",
    "WriteEntry",
    "__version__",
    "run",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'casemate' has no attribute {name!r}")
    module = __import__(place, fromlist=[name])
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

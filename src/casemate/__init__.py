"""casemate: secure containers behind one interface.

Public names load on first use, so that the OCI verbs, which import this package too, do not pay for the SDK.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.sdk import AsyncSandbox, RunResult, Sandbox, run

__version__ = "0.1.0"
__all__ = ["AsyncSandbox", "RunResult", "Sandbox", "__version__", "run"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from casemate import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module 'casemate' has no attribute {name!r}")

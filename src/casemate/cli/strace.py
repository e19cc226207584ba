"""`--strace` and what goes with it, as global options and as those of `do`."""

from __future__ import annotations

from casemate.cli.options import Parsed
from casemate.errors import UsageError
from casemate.runtime.strace import DEFAULT_SIZE, Strace


def strace_from(parsed: Parsed) -> Strace | None:
    """What the options ask for; None if nothing. Raises UsageError."""
    if not parsed.flag("strace"):
        further = next((name for name in ("strace-log", "strace-format", "strace-calls", "strace-size") if parsed.given(name)), "")
        if further and not parsed.given("strace"):
            raise UsageError(f"--{further} goes with --strace")
        return None
    calls = [name.strip() for name in parsed.value("strace-calls").split(",") if name.strip()]
    return Strace(parsed.value("strace-format", "text"), parsed.value("strace-log"), calls, parsed.integer("strace-size", DEFAULT_SIZE))

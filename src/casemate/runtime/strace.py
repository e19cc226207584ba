"""What `--strace` asks for: a line for each system call that the sentry handles."""

from __future__ import annotations

import os

from casemate.errors import HostError, SpecError, UsageError
from casemate.runtime.request import STRACE_ANNOTATION, STRACE_VARIABLE

DEFAULT_SIZE, MOST_SIZE = 64, 4096
_FORMATS = ("text", "json")


class Strace:
    """form: text or json.   log: the file, "" for the container's standard error.   calls: only these; all if empty.   size: bytes shown of a string."""

    __slots__ = ("calls", "form", "log", "size")

    def __init__(self, form: str = "text", log: str = "", calls: list[str] | None = None, size: int = DEFAULT_SIZE) -> None:
        if form not in _FORMATS:
            raise UsageError(f"--strace-format: expected text or json, got {form!r}")
        if not 0 <= size <= MOST_SIZE:
            raise UsageError(f"--strace-size: expected 0 to {MOST_SIZE}, got {size}")
        self.form = form
        self.log = log
        self.calls = calls or []
        self.size = size

    def in_plan(self, opened: list[int]) -> dict[str, object]:
        """As the plan takes it; the log's descriptor is added to `opened`. Raises HostError."""
        return {"log": self._open(opened), "json": self.form == "json", "calls": self.calls, "size": self.size}

    def _open(self, opened: list[int]) -> int | None:
        if not self.log:
            return None
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(self.log, flags, 0o600)
        except OSError as error:
            raise HostError(f"--strace-log: {error.strerror} {self.log!r}", "name a file that can be written") from None
        opened.append(fd)
        return fd


def of_container(given: Strace | None, spec: dict[str, object], isolation: str, *, can_trace: bool) -> Strace | None:
    """What was given on the command line, else what the annotation or the environment says. Raises HostError, SpecError.

    An annotation names no file: who writes it need not be who may write on this host.
    """
    annotations = spec.get("annotations")
    annotated = annotations.get(STRACE_ANNOTATION) if isinstance(annotations, dict) else None
    if given is None and annotated in (None, "false"):
        return Strace() if can_trace and os.environ.get(STRACE_VARIABLE) == "1" else None
    if not can_trace:
        raise HostError(f"isolation {isolation!r} does not see system calls", "--strace and its annotation go with --isolation=sentry")
    if given is None and annotated not in ("true", *_FORMATS):
        raise SpecError(file="config.json", json_path=f"annotations[{STRACE_ANNOTATION!r}]", value=annotated, expected="true, text, json or false")
    return given or Strace("text" if annotated == "true" else str(annotated))

"""A hardened sandbox for measurements, as `casemate do` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from casemate.policy.hardened import Options
from casemate.policy.ids import lend
from casemate.policy.toolchains import installations
from casemate.runtime.launch import Running
from casemate.runtime.sandbox import Start, start_sandbox


@contextmanager
def sandbox(arguments: list[str], *, state_root: str, isolation: str, stdout: int = 1) -> Iterator[Running]:
    """A running sandbox, deleted at the end; its input is empty. arguments: with the program's full path. Raises what `launch` raises."""
    options = Options(arguments)
    options.lent = lend(state_root)
    options.shown = installations(arguments[0])
    how = Start(f"do-report-{os.getpid()}-{os.urandom(4).hex()}", state_root)
    how.isolation = isolation
    how.die_with_parent = True
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        how.stdio = (nothing, stdout, 2)
        running, _ = start_sandbox(options, how)
        try:
            yield running
        finally:
            running.delete()
    finally:
        os.close(nothing)

"""Asks from inside: what a program in the sandbox gets when it makes each system call."""

from __future__ import annotations

import errno
import json
import os
import sys

from casemate.errors import CasemateError
from casemate.report import inside_program
from casemate.report.names import NAMES
from casemate.report.sandbox import sandbox
from casemate.report.unprivileged import unprivileged

# End or block the process, go back to where it was not, or write out all disks.
SKIPPED = frozenset(["exit", "exit_group", "pause", "rt_sigreturn", "rt_sigsuspend", "sync", "vfork"])
_TIMEOUT_S = 120


def in_sandbox(state_root: str, isolation: str) -> dict[str, str]:
    """What each call but the skipped gives in a sandbox: an error's name, "ok" (it succeeds), "killed" (by the policy), "signal N", "ended" or "blocked".

    Raises CasemateError if the sandbox has no Python that works, and what `launch` raises.
    """
    with open(inside_program.__file__, encoding="utf-8") as file:
        arguments = [os.path.realpath(sys.executable), "-I", "-S", "-c", file.read(), *_numbers()]
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as output:
        try:
            with sandbox(arguments, state_root=state_root, isolation=isolation, stdout=writer) as running:
                has_ended = running.wait(_TIMEOUT_S) is not None
        finally:
            os.close(writer)
        text = output.read() if has_ended else b""
    if not text:
        raise CasemateError("the program that tries the calls gave no answer")
    return _by_name(text)


def outside() -> dict[str, str]:
    """The same of a process that has neither a filter nor privileges: what the kernel itself says. Raises CasemateError."""
    return _by_name(unprivileged(lambda: inside_program.try_all(_numbers())))


def _numbers() -> list[str]:
    return [str(number) for number, name in sorted(NAMES.items()) if name not in SKIPPED]


def _by_name(text: bytes) -> dict[str, str]:
    return {NAMES[int(number)]: _word(value) for number, value in json.loads(text).items()}


def _word(value: int | str) -> str:
    if isinstance(value, int):
        return errno.errorcode.get(value, f"errno {value}") if value else "ok"
    return "killed" if value == "signal 31" else value

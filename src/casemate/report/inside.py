"""Asks from inside: what a program in the sandbox gets when it makes each system call."""

from __future__ import annotations

import errno
import json
import os
import sys

from casemate.errors import CasemateError
from casemate.report.names import NAMES
from casemate.report.sandbox import sandbox

# End or block the process, go back to where it was not, or write out all disks.
SKIPPED = frozenset(["exit", "exit_group", "pause", "rt_sigreturn", "rt_sigsuspend", "sync", "vfork"])
_TIMEOUT_S = 120


def results(*, state_root: str, isolation: str, confined: bool) -> dict[str, str]:
    """What each call but the skipped gave: an error's name, "ok" (it succeeded), "killed" (by the policy), "signal N", "ended" or "blocked".

    confined: under the seccomp profile; without it, what the kernel itself says.
    Raises CasemateError if the sandbox has no Python that works.
    """
    reader, writer = os.pipe()
    numbers = [str(number) for number, name in sorted(NAMES.items()) if name not in SKIPPED]
    with open(os.path.join(os.path.dirname(__file__), "inside_program.py"), encoding="utf-8") as file:
        program = file.read()
    arguments = [os.path.realpath(sys.executable), "-I", "-S", "-c", program, *numbers]
    with os.fdopen(reader, "rb") as output:
        try:
            with sandbox(arguments, state_root=state_root, isolation=isolation, stdout=writer, confined=confined) as running:
                os.close(writer)
                writer = -1
                status = running.wait(_TIMEOUT_S)
                text = output.read() if status is not None else b""
        finally:
            if writer >= 0:
                os.close(writer)
    if not text:
        raise CasemateError("the program that tries the calls gave no answer")
    return {NAMES[int(number)]: _word(value) for number, value in json.loads(text).items()}


def _word(value: int | str) -> str:
    if isinstance(value, int):
        return errno.errorcode.get(value, f"errno {value}") if value else "ok"
    return "killed" if value == "signal 31" else value

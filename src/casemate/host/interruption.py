"""Signals that come before the program which they are for: kept for it, or the end of a long wait for a first machine.

A handler that raises wherever it happens to run would leave half a start behind, so it does only where nothing but the wait is at stake.
"""

from __future__ import annotations

import _signal

from casemate.errors import Interrupted

_ENDING = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT)

kept: list[int] = []


def keep(signal: int) -> None:
    """Keeps a signal for the program. Raises Interrupted within a `Wait`, if its default action would end the program."""
    kept.append(signal)
    if Wait.lasts:
        Wait.end()


class Wait:
    """What the block does, a kept signal breaks off. Of signals that nobody hands to `keep`, it knows nothing."""

    lasts = False

    def __enter__(self) -> None:
        Wait.lasts = True
        Wait.end()

    def __exit__(self, *_: object) -> None:
        Wait.lasts = False

    @staticmethod
    def end() -> None:
        for signal in kept:
            if signal in _ENDING:
                Wait.lasts = False
                raise Interrupted(signal)

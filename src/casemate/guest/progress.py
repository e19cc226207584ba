"""How far a build is: one line that changes in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

# "  CC      kernel/fork.o", as Linux' makefiles say what they make.
_STEP = re.compile(r"  [A-Z][A-Z0-9_]*\s+(?:\[M\]\s+)?(\S+)")
_QUIET_S = 15  # between two lines of a log
_BUSY_S = 0.1  # between two changes in a terminal


class Progress:
    """Counts what was made. before: how many files an earlier build like this one made; 0 if there was none."""

    def __init__(self, out: TextIO, before: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.made = 0
        self._out = out
        self._before = before
        self._clock = clock
        self._is_terminal = out.isatty()
        self._began = clock()
        self._said = self._began

    def hear(self, line: str) -> None:
        """A line of make's."""
        step = _STEP.match(line)
        if step is None:
            return
        self.made += 1
        now = self._clock()
        if now - self._said < (_BUSY_S if self._is_terminal else _QUIET_S):
            return
        self._said = now
        directory = step[1].rpartition("/")[0] or "."
        total = f" of {self._before}" if self._before >= self.made else ""
        text = f"casemate: {self.made}{total} files in {_duration(now - self._began)}: {directory}"
        self._out.write(f"\r{text}\x1b[K" if self._is_terminal else f"{text}\n")
        self._out.flush()

    def end(self) -> None:
        """Clears the line."""
        if self._is_terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

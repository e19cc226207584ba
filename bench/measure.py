"""Runs a command or a case and says how long it took: from exec to exit, without a shell or a pipe in between."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

_STDIO = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)] + [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
_POLL_S = 0.0002
_STOP_S = 10.0
_DEADLINE_S = 30.0
WARM_UPS = 1

Samples = dict[str, list[float]]


class Failed(Exception):
    """A command of a peer ended with something other than 0, or not at all."""

    def __init__(self, argv: Sequence[str], what: str) -> None:
        verb = argv[3:4] if argv[1:2] == ["--root"] else []
        super().__init__(f"`{' '.join([Path(argv[0]).name, *verb])}`: {what}")


class _Late(Exception):
    """The deadline of an action has passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no end within {seconds:.0f} s")


def spawn(argv: Sequence[str]) -> int:
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=_STDIO)


def _end(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def timed(argv: Sequence[str]) -> float:
    """Milliseconds from the spawn of the command to its end."""
    begin = time.perf_counter()
    pid = spawn(argv)
    try:
        _, status, _ = os.wait4(pid, 0)
    except BaseException as error:
        _end([pid])
        if isinstance(error, _Late):
            raise Failed(argv, str(error)) from None
        raise
    took = (time.perf_counter() - begin) * 1e3
    if status != 0:
        raise Failed(argv, f"exit code {os.waitstatus_to_exitcode(status)}")
    return took


def timed_together(commands: Sequence[Sequence[str]], at_once: int) -> float:
    """Milliseconds from the first spawn to the last end, `at_once` of them running at any time."""
    waiting = list(commands)
    running: dict[int, Sequence[str]] = {}
    begin = time.perf_counter()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                argv = waiting.pop()
                running[spawn(argv)] = argv
            pid, status = os.wait()
            argv = running.pop(pid)
            if status != 0:
                raise Failed(argv, f"exit code {os.waitstatus_to_exitcode(status)}")
    except BaseException as error:
        _end(running)
        if isinstance(error, _Late):
            raise Failed(commands[0], f"{len(running)} of {len(commands)}, {at_once} at once: {error}") from None
        raise
    return (time.perf_counter() - begin) * 1e3


def wait_stopped(pid: int) -> None:
    """Waits until a process that is not our child is gone or a zombie."""
    deadline = time.monotonic() + _STOP_S
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            if time.monotonic() > deadline:
                raise OSError(f"a container's process did not stop within {_STOP_S:.0f} s")
            time.sleep(_POLL_S)


def _within(seconds: float, action: Callable[[], dict[str, float]]) -> dict[str, float]:
    def late(number: int, frame: FrameType | None) -> None:
        raise _Late(seconds)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return action()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def interleaved(
    count: int, actions: dict[str, Callable[[], dict[str, float]]], *, deadline_s: float = _DEADLINE_S, enough_s: float = float("inf")
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Calls the peers' actions in turn (A B C A B C ...), first once uncounted: the figures per row and peer, and why a peer has none.

    deadline_s: of one action.   enough_s: after so long no further round is begun, though there are fewer than `count`; one is always counted.
    """
    rows: dict[str, Samples] = {}
    failures: dict[str, str] = {}
    begin = time.monotonic()
    for number in range(-WARM_UPS, count):
        if number > 0 and time.monotonic() - begin > enough_s:
            break
        for peer, action in actions.items():
            if peer in failures:
                continue
            try:
                figures = _within(deadline_s, action)
            except (Failed, _Late, OSError) as error:
                failures[peer] = str(error)
                continue
            for row, figure in figures.items() if number >= 0 else ():
                rows.setdefault(row, {}).setdefault(peer, []).append(figure)
    for samples in rows.values():
        for peer in failures:
            samples.pop(peer, None)
    return rows, failures

"""Signals that come while `do` still starts its program."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from casemate.cli.commands import do

CAUGHT = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Program:
    """Stands for a running one: this very process, which catches all of `CAUGHT`."""

    pid = os.getpid()

    def __init__(self) -> None:
        self.signals: list[int] = []

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.signals.append(number)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in CAUGHT}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_signal_before_the_program_runs_is_kept_for_it() -> None:
    signals, program = do._Signals(), Program()
    signals.catch()

    os.kill(os.getpid(), signal.SIGTERM)
    assert program.signals == []
    signals.send_on(program)  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGUSR1)

    assert program.signals == [signal.SIGTERM, signal.SIGUSR1]

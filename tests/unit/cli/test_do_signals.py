"""Signals that come while `do` still starts its program."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE, TIMEOUT_S
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


# Ready once it is the program itself that speaks: what a shell says before its `exec` would be said while the shell, which handles SIGINT, still is there.
READY = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('ready', flush=True); time.sleep(100)"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_program_that_is_ready_and_does_not_handle_it(tmp_path: Path, number: int, code: int) -> None:
    command = [CASEMATE, "--root", str(tmp_path), "do", "--", "python3", "-c", READY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        assert running.wait(TIMEOUT_S) == code

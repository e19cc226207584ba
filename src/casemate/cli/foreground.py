"""A command that waits for its program: forwards signals to it, relays a terminal, reaps it."""

from __future__ import annotations

import _signal
import os

from casemate.isolation.base import ExitStatus

_FORWARDED = (
    _signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGALRM,
    _signal.SIGCONT,
)  # fmt: skip


class Foreground:
    """Waits for one child of this process, with this process's own terminal as the program's once it has that one's master."""

    def __init__(self) -> None:
        self._master = -1

    def take_master(self, fd: int) -> None:
        """Takes the terminal's master; called while the container is created."""
        self._master = fd

    def wait(self, pid: int) -> ExitStatus:
        """Returns how the process `pid`, a child of ours, ended."""
        self._forward_signals(pid)
        if self._master >= 0:
            from casemate.host.tty import Relay

            with Relay(self._master) as relay:
                relay.run(pid)
        _, status = os.waitpid(pid, 0)
        return ExitStatus.from_wait_status(status)

    def _forward_signals(self, pid: int) -> None:
        def forward(signal: int, _: object) -> None:
            try:
                os.kill(pid, signal)  # cannot hit another: the pid is ours until we reap it
            except ProcessLookupError:
                pass

        for number in _FORWARDED:
            _signal.signal(number, forward)

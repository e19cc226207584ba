"""What the makers of a template share: the machine that it is made of. Apart from `template`, which each start imports: subprocess takes 11 ms."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time

from casemate.errors import HostError
from casemate.host.interruption import Wait
from casemate.hypervisor import template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket

BOOT_S = 60
_SETPRIV = "/usr/bin/setpriv"  # of util-linux
_TOLD_S = 10


@contextlib.contextmanager
def running(words: list[str], given: tuple[int, ...], environment: dict[str, str]) -> Iterator[None]:
    """A machine that a template is made of: it inherits the descriptors `given`, and ends with the block. Raises HostError, with what it said last, for
    an OSError or a HostError of the block.
    """
    # It boots unjailed: killed makers take it with them.
    if os.access(_SETPRIV, os.X_OK):
        words = [_SETPRIV, "--pdeathsig", "KILL", "--", *words]
    with subprocess.Popen(words, pass_fds=given, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
        try:
            yield
        except (OSError, HostError) as error:
            process.kill()
            said = process.stderr.read().decode(errors="replace").strip()[-300:] if process.stderr else ""
            raise HostError(f"no template of a machine could be made: {error} {said}".rstrip()) from None
        finally:
            process.kill()


def wait_for_agent(channel: socket, seconds: float = 0) -> None:
    """Until a machine's agent has spoken. One that may take longer than others is told of meanwhile. Raises HostError."""
    limit = seconds or BOOT_S
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    began = time.monotonic()
    while not _has_come(poll, min(_TOLD_S, limit)):
        waited = time.monotonic() - began
        if waited >= limit:
            raise HostError(f"the agent's first word did not come within {limit:g} s")
        if limit > BOOT_S:
            template.say(f"it boots since {waited:.0f} s")


def _has_come(poll: select.poll, seconds: float) -> bool:
    with Wait():
        return bool(poll.poll(seconds * 1000))

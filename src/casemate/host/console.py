"""The console socket of the OCI engines: takes a terminal's master by SCM_RIGHTS (runc, docs/terminals.md)."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from casemate.errors import HostError


def send_console(path: str, master: int) -> None:
    """Sends the master to the socket at `path` and closes it. Raises HostError if nobody listens there."""
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        channel.connect(path)
        channel.sendmsg([b"/dev/ptmx"], [(SOL_SOCKET, SCM_RIGHTS, master.to_bytes(4, "little"))])
    except OSError as error:
        raise HostError(f"--console-socket {path!r}: {error.strerror}", "listen there before the container is created") from None
    finally:
        channel.close()
        os.close(master)

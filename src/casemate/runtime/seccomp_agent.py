"""Hands a container's seccomp notify descriptor to the agent at `linux.seccomp.listenerPath` (runtime-spec, "The Container Process State")."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from casemate import jsonlite
from casemate.errors import HostError
from casemate.runtime.container import CREATING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.runtime.container import Container


def send_listener(container: Container, spec: dict[str, object], listener: int) -> None:
    """Sends `listener` and the process state, and closes it. Raises HostError if nobody listens there."""
    linux = spec.get("linux")
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None
    profile: dict[str, object] = seccomp if isinstance(seccomp, dict) else {}
    path = str(profile.get("listenerPath") or "")
    message = {
        "ociVersion": container.record.oci_version,
        "fds": ["seccompFd"],
        "pid": container.record.pid,
        "metadata": profile.get("listenerMetadata") or "",
        "state": container.state(CREATING),
    }
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        channel.connect(path)
        rights = [(SOL_SOCKET, SCM_RIGHTS, listener.to_bytes(4, "little"))]
        channel.sendmsg([jsonlite.dumps(message).encode()], rights)
    except OSError as error:
        reason = f"linux.seccomp.listenerPath {path!r}: {error.strerror}"
        raise HostError(reason, "start the seccomp agent that listens there") from None
    finally:
        channel.close()
        os.close(listener)

"""`start`: lets the created process execute its program, then runs the poststart hooks."""

from __future__ import annotations

import os

from casemate.errors import ContainerStateError
from casemate.isolation import registry
from casemate.isolation.base import Handlers
from casemate.runtime import store
from casemate.runtime.container import CREATED, RUNNING, Container
from casemate.runtime.hooks import run_hooks
from casemate.runtime.seccomp_agent import send_listener


def start(container: Container) -> None:
    """Starts a created container; the caller holds its lock. Raises ContainerStateError, EngineError, HookError.

    The socket goes before the word is said: if this process dies in between, the container counts as running, which `delete` handles, and never as created
    while its program runs.
    """
    container.need("start", CREATED)
    entry = container.entry
    spec = container.spec()
    kept = next((name for name in (store.CONTROL_SOCKET, store.AGENT_SOCKET) if entry.exists(name)), "")
    waiting = kept or ".starting.sock"
    if kept:
        os.unlink(store.START_SOCKET, dir_fd=entry.fd)
    else:
        os.rename(store.START_SOCKET, waiting, src_dir_fd=entry.fd, dst_dir_fd=entry.fd)
    try:
        registry.get(container.record.isolation).start(entry.socket_path(waiting), _handlers(container, spec), container.record.pid)
    except ConnectionRefusedError:
        raise ContainerStateError(container.id, "start", "stopped", CREATED) from None
    finally:
        if not kept:
            os.unlink(waiting, dir_fd=entry.fd)
    run_hooks(container, spec, "poststart", RUNNING)


def _handlers(container: Container, spec: dict[str, object]) -> Handlers:
    def unexpected(_: object) -> None:
        raise ContainerStateError(container.id, "start", "in an unexpected phase", CREATED)

    return Handlers(
        child=unexpected,
        barrier=unexpected,
        console=unexpected,
        seccomp_listener=lambda fd: send_listener(container, spec, fd),
    )

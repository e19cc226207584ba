"""What a running container's control socket is asked, where its isolation has one (docs/design/sentry.md, "Control")."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate import wire
from casemate.errors import ContainerStateError, HostError, WireError
from casemate.isolation import registry
from casemate.runtime import store
from casemate.runtime.container import RUNNING, Container

EVERY_PROCESS = 0
_TIMEOUT_S = 30.0  # a sandbox that was taken over may not answer at all


def has_control(container: Container) -> bool:
    """Whether its processes are not the host's, so that only the sandbox itself knows them."""
    return registry.get(container.record.isolation).has_control


def list_processes(container: Container) -> list[dict[str, object]]:
    """The sandbox's processes: pid, ppid, pgid, sid, uid, threads, state, started_ms (ago), cpu_ms, command. Raises ContainerStateError, WireError."""
    processes = ask(container, {"request": "ps"}).get("processes")
    if not isinstance(processes, list):
        raise WireError("the sandbox sent no list of processes")
    return [row for row in processes if isinstance(row, dict)]


def count_syscalls(container: Container) -> dict[str, object]:
    """How often each call was made. `calls`: rows of number, name, calls, errors, refused, timed, time_ns, note; `unseen`: names of what the host answers.

    Time is measured from the first such question on. Raises ContainerStateError, HostError, WireError.
    """
    return _ask_sentry(container, "syscalls", ("calls", "unseen"))


def debug_report(container: Container) -> dict[str, object]:
    """`tasks`, `threads`, `files`, `mappings` (lists of rows), `left_out`, and `is_stuck`. Raises ContainerStateError, HostError, WireError."""
    return _ask_sentry(container, "debug", ("is_stuck", "left_out", "tasks", "threads", "files", "mappings"))


def require_sentry(container: Container) -> None:
    """Raises HostError if the container's isolation does not see system calls."""
    isolation = container.record.isolation
    if not registry.get(isolation).traces_calls:
        raise HostError(f"isolation {isolation!r} does not see system calls", "this goes with containers of --isolation=sentry")


def _ask_sentry(container: Container, request: str, fields: tuple[str, ...]) -> dict[str, object]:
    require_sentry(container)
    answer = ask(container, {"request": request})
    if not all(field in answer for field in fields):
        raise WireError(f"the sentry did not answer {request!r}")
    return {field: answer[field] for field in fields}


def send_signal(container: Container, signal: int, pid: int = EVERY_PROCESS) -> None:
    """Signals a process of the sandbox. Raises ContainerStateError, WireError."""
    ask(container, {"request": "signal", "signal": signal, "pid": pid})


def ask(container: Container, request: dict[str, object]) -> dict[str, object]:
    """Asks and returns the answer. Raises ContainerStateError (nobody is there), HostError (refused), WireError."""
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        channel.settimeout(_TIMEOUT_S)
        channel.connect(container.entry.socket_path(store.CONTROL_SOCKET))
        wire.send(channel, request)
        answer, _ = wire.receive(channel)
    except (ConnectionError, FileNotFoundError):
        answer = None
    except TimeoutError:
        raise WireError(f"container {container.id!r} did not answer within {_TIMEOUT_S:g} s: is its sandbox paused?") from None
    finally:
        channel.close()
    if answer is None:
        raise ContainerStateError(container.id, "ask", container.status(), RUNNING)
    if answer.get("event") == "error":
        raise HostError(str(answer.get("message")))
    return answer

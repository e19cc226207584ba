"""`casemate.run`: one program in a sandbox of its own, without an agent."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from casemate.errors import EngineError, SandboxError
from casemate.policy.hardened import DEFAULT_PIDS
from casemate.policy.users import find_user
from casemate.runtime import store
from casemate.runtime.collect import collect
from casemate.runtime.launch import Running
from casemate.runtime.sandbox import Start, show_program, start_sandbox
from casemate.sdk._closing import close_meanwhile
from casemate.sdk._pump import MAX_OUTPUT, End, Pump, Stream
from casemate.sdk._replies import argument
from casemate.sdk._session import HOME, Settings, choose_root, sandbox_errors, warn
from casemate.sdk._starting import Request, _stdin
from casemate.sdk.types import CommandResult

_CODES = {2: 127, 13: 126, 8: 126}  # as docker's: ENOENT, EACCES, ENOEXEC


def run(
    cmd: str | Sequence[str], *, rootfs: str = "", isolation: str = "", input: bytes | str | None = None, timeout: float | None = None,
    envs: Mapping[str, str] | None = None, binds: Sequence[tuple[str, str] | tuple[str, str, str]] = (), memory: int | str = 0, cpus: float = 0.0,
    pids: int = DEFAULT_PIDS, network: str = "none", user: str | None = None, cwd: str = "/", check: bool = False, max_output: int = MAX_OUTPUT,
    root_image: str = "auto", state_root: str = "",
) -> CommandResult:  # fmt: skip
    """Runs one program in a new sandbox, from start to end; as subprocess.run, and nothing is left afterwards.

    cmd: a list of words, or a text for /bin/sh.   input: its standard input.   timeout: seconds; then it is killed and the exit code is 124.
    user: a user of the sandbox, by name or number, also "user:group".   check: raise CommandExit if the exit code is not 0.   The rest as in `Sandbox.create`.

    The result's exit code is 127 if the program does not exist and 126 if it is not executable; `error` then says why, and also if the memory limit, the
    timeout or the seccomp policy ended it. Raises SandboxError (a wrong argument), HostError, EngineError.
    """
    settings = Settings(
        rootfs=rootfs, isolation=isolation, envs=envs or {}, binds=binds, memory=memory, cpus=cpus, pids=pids, network=network, cwd=cwd,
        show=() if isinstance(cmd, str) else tuple(cmd[:1]), root_image=root_image,
        state_root=os.path.abspath(state_root) if state_root else store.default_root(),
    )  # fmt: skip
    result = _run(Request(cmd=cmd, stdin=input if input is not None else False, max_output=max_output), settings, user, timeout)
    return result.check() if check else result


def _run(request: Request, settings: Settings, user: str | None, timeout: float | None) -> CommandResult:
    arguments = request.args()
    argument(settings.cwd, "cwd")
    if timeout is not None and not timeout > 0:
        raise SandboxError(f"timeout: expected seconds above 0, or None, got {timeout!r}")
    collect(settings.state_root)
    with sandbox_errors():
        options = settings.options(settings.state_root)
        if user:
            options.set_user(find_user(user, options.rootfs or "/"))
    options.arguments = arguments
    options.workdir = settings.cwd
    if settings.show and not options.rootfs:
        options.arguments[0] = show_program(options, options.arguments[0], os.environ.get("PATH", "/usr/bin:/bin")) or options.arguments[0]
    if options.environment["HOME"] == HOME:
        options.environment["HOME"] = "/tmp"  # nobody makes a home for one program
    how = Start(f"run-{os.getpid()}-{os.urandom(6).hex()}", settings.state_root)
    how.warn = warn
    how.isolation = settings.isolation
    choose_root(settings, options, how)
    theirs, ours = [_stdin(request.stdin, [])[0]], []
    try:
        for _ in range(2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            ours.append(reader)
            theirs.append(writer)
        how.stdio = (theirs[0], theirs[1], theirs[2])
        with sandbox_errors():
            running, _ = start_sandbox(options, how)
    except EngineError as error:
        for fd in ours:
            os.close(fd)
        if error.op not in ("exec", "check_exec") or error.errno not in _CODES:
            raise
        return CommandResult(_CODES[error.errno], stderr_bytes=error.message.encode(), error=error.message)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    pump = Pump(_ChildEnd(running), Stream(ours[0]), Stream(ours[1]), max_output=request.max_output)
    return _follow(running, pump, timeout)


def _follow(running: Running, pump: Pump, timeout: float | None) -> CommandResult:
    deadline = time.monotonic() + timeout if timeout else None
    expired = False
    try:
        while pump.end is None:
            poll = select.poll()
            for fd in pump.fds():
                poll.register(fd, select.POLLIN)
            wait = None if expired or deadline is None else max(0, deadline - time.monotonic()) * 1000
            ready = poll.poll(wait)
            for fd, _ in ready:
                pump.ready(fd)
            if not ready and not expired:
                expired = True
                running.kill()
        return _result(pump, running, timeout if expired else None)
    finally:
        pump.close()
        running.delete(close_meanwhile)


def _result(pump: Pump, running: Running, expired: float | None) -> CommandResult:
    result = pump.result()
    if expired is not None:
        return replace(result, exit_code=124, error=f"ended after {expired:g} s", signal=9)
    if result.exit_code == 137 and running.oom_kills():
        return pump.result("killed: the memory limit was reached")
    return pump.result("killed by the sandbox's seccomp policy") if result.signal == 31 else result


class _ChildEnd:
    """The end of a child of this process."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def fileno(self) -> int:
        return self._running.pidfd

    def poll(self) -> End | None:
        status = self._running.wait(0)
        if not status:
            return None
        cpu_ns, max_memory = self._running.consumption()
        return End(status, cpu_ns / 1e9, max_memory)

    def close(self) -> None:
        """The descriptor is the container's."""

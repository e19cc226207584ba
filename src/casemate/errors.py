"""The whole exception tree.

CasemateError                      anything of ours; `exit_code` is what the command line ends with
  SpecError                        config.json, process.json or resources: file, json_path, value, expected
  UsageError                       a command line or an argument of a public function is wrong
  HostError                        this host cannot do it: reason, remedy
    CgroupError                    a cgroup file or controller: controller, path, field, errno
    EngineMissing                  the engine executable is not where the package keeps it
  Interrupted                      a signal ended a start before there was a program
  EngineError                      an operation of the plan failed: op, index, errno
  ContainerError                   container_id
    ContainerNotFound / ContainerExists / ContainerStateError
    HookError                      a hook failed: kind, path
  WireError                        a peer's frame is malformed or too large
  SandboxError                     the SDK's
    SandboxNotFound / FileNotFound / NotPermitted
    CommandError                   exit_code, stdout, stderr
      CommandExit / CommandTimeout / OutOfMemory / KilledByPolicy
"""

from __future__ import annotations


class CasemateError(Exception):
    """Base of all errors of casemate. The text is one line and says what to do next where that is known."""

    exit_code = 1


class UsageError(CasemateError):
    """A command line or a public function's argument is wrong."""


class Interrupted(CasemateError):
    """A signal ended a start before there was a program."""

    def __init__(self, signal: int) -> None:
        self.exit_code_for_verb = 128 + signal
        super().__init__(f"ended by signal {signal} before the program began")


class SpecError(CasemateError):
    """A field of a specification is wrong: names the file, the field's path, the value and what is allowed."""

    def __init__(self, *, file: str, json_path: str, value: object = None, expected: str) -> None:
        self.file = file
        self.json_path = json_path
        self.value = value
        self.expected = expected
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        place = f"{json_path}: " if json_path else ""
        got = "" if value is None else f", got {shown}"
        super().__init__(f"{file}: {place}expected {expected}{got}")


class HostError(CasemateError):
    """This host cannot do what is asked: `reason`, and in `remedy` what would help."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{reason} ({remedy})" if remedy else reason)


class EngineMissing(HostError):
    """The engine executable is not where the package keeps it."""


class CgroupError(HostError):
    """A cgroup file or controller is missing or refuses a value."""

    def __init__(self, message: str, *, controller: str = "", path: str = "", field: str = "", errno: int = 0, remedy: str = "") -> None:
        self.controller = controller
        self.path = path
        self.field = field
        self.errno = errno
        details = ", ".join(part for part in (field, path) if part)
        super().__init__(f"cgroup: {message}" + (f" [{details}]" if details else ""), remedy)


class EngineError(CasemateError):
    """An operation of the plan failed in the engine. `op` is its name, `index` its place (-1: before the first)."""

    def __init__(self, *, op: str, index: int, errno: int, message: str) -> None:
        self.op = op
        self.index = index
        self.errno = errno
        self.message = message
        super().__init__(f"{op}: {message}" if op else message)


class ContainerError(CasemateError):
    """An error about one container."""

    def __init__(self, container_id: str, message: str) -> None:
        self.container_id = container_id
        super().__init__(message)


class ContainerNotFound(ContainerError):
    """No container of this id has state below this root."""

    def __init__(self, container_id: str) -> None:
        super().__init__(container_id, f"container {container_id!r} does not exist")


class ContainerExists(ContainerError):
    """The id is taken."""

    def __init__(self, container_id: str) -> None:
        super().__init__(container_id, f"container with id {container_id!r} already exists")


class ContainerStateError(ContainerError):
    """The verb does not fit the container's state."""

    def __init__(self, container_id: str, verb: str, status: str, needed: str) -> None:
        self.verb = verb
        self.status = status
        # containerd's shim looks for runc's words: with them the container has ended, and without them kill itself has failed.
        words = " (container not running)" if (verb, status) == ("kill", "stopped") else ""
        super().__init__(container_id, f"cannot {verb} container {container_id!r}: it is {status}, must be {needed}{words}")


class HookError(ContainerError):
    """A hook failed or took too long."""

    def __init__(self, container_id: str, kind: str, path: str, message: str) -> None:
        self.kind = kind
        self.path = path
        super().__init__(container_id, f"{kind} hook {path}: {message}")


class WireError(CasemateError):
    """A frame of a peer is malformed, too large or of the wrong shape."""


class SandboxError(CasemateError):
    """Base of the SDK's errors. `errno`: the system call's that failed in the sandbox; 0 if it was none."""

    def __init__(self, message: str, errno: int = 0) -> None:
        self.errno = errno
        super().__init__(message)


class SandboxNotFound(SandboxError):
    """No running sandbox has this name."""


class FileNotFound(SandboxError):
    """A path in the sandbox does not exist."""


class NotPermitted(SandboxError):
    """A file or a call of the sandbox is not permitted to who asked."""


class CommandError(SandboxError):
    """A command did not succeed: `exit_code` (128 + n for signal n), and what it printed."""

    def __init__(self, message: str = "", *, exit_code: int, stdout: str = "", stderr: str = "") -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(message or f"command exited with code {exit_code}: {stderr.strip()[-200:]}".removesuffix(": "))


class CommandExit(CommandError):
    """It ended with a status other than 0."""


class CommandTimeout(CommandError):
    """It ran longer than it may, and was killed."""


class OutOfMemory(CommandError):
    """The kernel killed it, or a process of it: the sandbox's memory limit was reached."""


class KilledByPolicy(CommandError):
    """It was killed by the sandbox's seccomp policy (SIGSYS)."""

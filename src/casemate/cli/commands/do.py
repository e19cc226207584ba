"""`casemate do [options] -- COMMAND`: a command in a sandbox of its own, now."""

from __future__ import annotations

import os
import sys

from casemate.cli.main import Globals
from casemate.cli.options import FLAG, LIST, STRACE, VALUE, Option, Parsed, help_text, parse
from casemate.errors import CasemateError, ContainerExists, EngineError, UsageError
from casemate.host import interruption
from casemate.policy.hardened import DEFAULT_PIDS, Options
from casemate.policy.ids import lend
from casemate.runtime import overlay
from casemate.runtime.launch import Running
from casemate.runtime.sandbox import Start, show_program, start_sandbox
from casemate.runtime.store import LOG_FILE, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.runtime.strace import Strace

HELP = "Runs a command in a sandbox: the host's root read-only below a private writable layer, sensitive places hidden, no network unless asked."
OPTIONS = [
    Option("isolation", VALUE, "the wall (default: namespaces, or as configured)", "NAME"),
    Option("hypervisor", VALUE, "with --isolation=microvm: uml, qemu or casemate (default: the first that can run here)", "NAME"),
    Option("yes y", FLAG, "with --isolation=microvm: install the kernel that guests boot, if there is none"),
    Option("rootfs", VALUE, "this directory as the root, in place of the host's", "DIR"),
    Option(
        "root-image", VALUE, "microvm with --rootfs: the guest's root is an image, written in memory or a disk (default: auto)", "auto|no|(memory|SIZE)[+dax]"
    ),
    Option("bind b", LIST, "show a directory or file of the host, writable unless :ro", "SRC:DST[:ro]"),
    Option("env e", LIST, "set an environment variable, or pass it on", "NAME[=VALUE]"),
    Option("workdir w", VALUE, "the working directory", "DIR"),
    Option("user u", VALUE, "user and group in the sandbox, by name or number (default 0:0)", "USER[:GROUP]"),
    Option("tty t", FLAG, "give it a terminal"),
    Option("memory m", VALUE, "limit of memory: bytes, or with K, M, G", "SIZE"),
    Option("cpus", VALUE, "limit of processor time, as 0.5", "N"),
    Option("pids", VALUE, f"limit of processes (default {DEFAULT_PIDS})", "N"),
    Option("timeout", VALUE, "end it after so many seconds, with exit code 124", "SECONDS"),
    Option("network", VALUE, "none (default) or host", "MODE"),
    Option("keep", FLAG, "keep the writable layer, and say where it is"),
    Option("diff", FLAG, "list the files it changed, on standard error"),
    Option("commit", VALUE, "copy the files it changed to this directory", "DIR"),
    *STRACE,
    Option("detach d", FLAG, "print its id and leave it running; see casemate logs, exec, kill and delete"),
    Option("name", VALUE, "its id, in place of one made up", "ID"),
    Option("h help", FLAG, "show this help"),
]
OWN_FAILURE, NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT = 125, 126, 127, 124
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_ENOENT, _EACCES, _ENOEXEC = 2, 13, 8
_SIGKILL, _SIGSYS = 9, 31
_ended_by: list[int] = []  # the signal to this process whose default action ended the program


def main(arguments: list[str]) -> int:
    parsed = parse(arguments, OPTIONS, interspersed=False)
    if parsed.flag("h"):
        print(help_text("casemate do [options] -- COMMAND [ARGUMENT...]", HELP, OPTIONS[:-1]))
        return 0
    if not parsed.arguments:
        raise UsageError("do: name a command to run: casemate do [options] -- COMMAND")
    container_id = _container_id(parsed)
    options = _options(parsed)
    if parsed.given("commit"):
        _check_commit(parsed.value("commit"))
    timeout = _number(parsed, "timeout", 0)
    detach = parsed.flag("detach")
    if detach and (options.terminal or timeout or any(parsed.given(name) for name in ("diff", "commit", "keep"))):
        raise UsageError("do: --detach goes with none of --tty, --timeout, --diff, --commit and --keep")
    how = Start(container_id, Globals.root)
    how.isolation = parsed.value("isolation") or Globals.isolation
    how.strace = _strace(parsed)
    how.warn = _warn
    if not _has_hypervisor(how):
        _refuse_words_of_guests(parsed)
    else:
        from casemate.cli.machine import prepare

        prepare(parsed.value("hypervisor"), how, install=parsed.flag("yes"))
        _choose_root(parsed, options, how)
    if options.terminal:
        from casemate.host.tty import terminal_size  # termios and select: 0.7 ms

        how.terminal_size = terminal_size(0)
    if detach:
        return _detach(options, how)
    how.die_with_parent = True
    signals = _Signals()
    if not options.terminal:
        signals.catch()
    try:
        running, layer = start_sandbox(options, how)
    except EngineError as error:
        return _failed(error)
    from casemate.runtime.collect import collect  # while the program runs

    try:
        signals.send_on(running)
        code = _follow(running, timeout, parsed)
        _report_changes(parsed, layer, options.rootfs)
    finally:
        running.delete()
        collect(Globals.root)
    return code


def _check_commit(directory: str) -> None:
    """Before anything runs: its result could not be copied."""
    path = os.path.abspath(directory)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"--commit: {path} is not a directory that you may write")


def _choose_root(parsed: Parsed, options: Options, how: Start) -> None:
    """An image of --rootfs, unless somebody wants to see on the host what was written."""
    mode = parsed.value("root-image", "auto")
    wanted = [name for name in ("diff", "commit", "keep") if parsed.given(name)]
    if mode not in ("auto", "no"):
        if not options.rootfs:
            raise UsageError("do: --root-image needs --rootfs: an image of the host's whole root would have to be made first")
        if wanted:
            raise UsageError(f"do: --root-image goes not with --{wanted[0]}: what is written stays in the guest")
    if mode != "no" and options.rootfs and not wanted:
        from casemate.hypervisor import root

        root.choose(mode, options.rootfs, how.annotations, how.warn)


def _refuse_words_of_guests(parsed: Parsed) -> None:
    """Who names a hypervisor expects a wall that would not be there."""
    for name in ("hypervisor", "root-image"):
        if parsed.given(name):
            raise UsageError(f"do: --{name} needs --isolation=microvm")


def _has_hypervisor(how: Start) -> bool:
    from casemate.configuration import configured
    from casemate.isolation import registry

    return registry.get(how.isolation or str(configured("isolation") or registry.DEFAULT)).has_hypervisor


def _strace(parsed: Parsed) -> Strace | None:
    if not any(parsed.given(option.names[0]) for option in STRACE):
        asked = Globals.strace
    else:
        from casemate.cli.strace import strace_from

        asked = strace_from(parsed)
    if asked and not asked.log and parsed.flag("tty"):
        raise UsageError("do: --strace with --tty needs --strace-log FILE: the terminal is the program's")
    return asked


def _warn(message: str) -> None:
    print(f"casemate: {message}", file=sys.stderr)


def _container_id(parsed: Parsed) -> str:
    """The name given, or one made up. Asked before anything is made: what is undone on an error is found by this name."""
    if not parsed.given("name"):
        # What a killed caller left is collected by its prefix; what was detached is its owner's to delete.
        prefix = "box" if parsed.flag("detach") else f"do-{os.getpid()}"
        return f"{prefix}-{os.urandom(4).hex()}"
    name = check_id(parsed.value("name"))
    if os.path.lexists(os.path.join(Globals.root, name)):
        raise ContainerExists(name)
    return name


def _detach(options: Options, how: Start) -> int:
    os.makedirs(how.state_root, 0o711, exist_ok=True)
    log_path = os.path.join(how.state_root, f".log-{how.container_id}")
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ContainerExists(how.container_id) from None  # another start of this name is at work
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    how.stdio = (null, log, log)
    try:
        running, _ = start_sandbox(options, how)
        os.rename(log_path, LOG_FILE, dst_dir_fd=running.container.entry.fd)
    except EngineError as error:
        os.unlink(log_path)
        return _failed(error)
    except BaseException:
        os.unlink(log_path)
        raise
    running.detach()
    print(how.container_id)
    return 0


def _options(parsed: Parsed) -> Options:
    options = Options(list(parsed.arguments))
    options.lent = lend(Globals.root)
    options.rootfs = _rootfs(parsed)
    options.terminal = parsed.flag("tty")
    options.memory = size_bytes(parsed.value("memory")) if parsed.given("memory") else 0
    options.cpus = _number(parsed, "cpus", 0)
    options.pids = parsed.integer("pids", DEFAULT_PIDS)
    if options.pids < 0:
        raise UsageError(f"--pids: expected 0 (no limit) or more, got {parsed.value('pids')!r}")
    options.network = parsed.value("network", "none")
    if options.network not in ("none", "host"):
        raise UsageError(f"--network: expected none or host, got {options.network!r}")
    options.binds = [_bind(text) for text in parsed.list("bind")]
    for text in parsed.list("env"):
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--env: expected NAME=VALUE or NAME, got {text!r}")
        if equals or name in os.environ:
            options.environment[name] = value if equals else os.environ[name]
    if parsed.given("user"):
        from casemate.policy.users import find_user

        options.set_user(find_user(parsed.value("user"), options.rootfs or "/", gid_of_number=0))
    options.workdir = parsed.value("workdir", "/")
    if not options.rootfs:
        _show_program(options)
    return options


def _rootfs(parsed: Parsed) -> str:
    if not parsed.given("rootfs"):
        return ""
    path = os.path.abspath(parsed.value("rootfs"))
    if not os.path.isdir(path):
        hint = " (images are not fetched: name an unpacked one, or see `casemate` as the runtime of podman or docker)" if ":" in path else ""
        raise UsageError(f"--rootfs: {path} is not a directory{hint}")
    return path


def _show_program(options: Options) -> None:
    """The program that the caller's PATH finds, with its installation if it lies below a hidden directory."""
    search_path = os.environ.get("PATH", "/usr/bin:/bin")
    program = show_program(options, options.arguments[0], search_path)
    if not program:
        return
    options.environment.setdefault("PATH", search_path)
    if "/" not in options.arguments[0]:
        options.arguments[0] = program


def _bind(text: str) -> tuple[str, str, bool]:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or not parts[1].startswith("/") or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise UsageError(f"--bind: expected SRC:DST or SRC:DST:ro with an absolute DST, got {text!r}")
    source = os.path.abspath(parts[0])
    if not os.path.lexists(source):
        raise UsageError(f"--bind: {source} does not exist")
    return source, parts[1], parts[-1] == "ro"


def size_bytes(text: str) -> int:
    """A size such as 512M in bytes. Raises UsageError."""
    digits = text.rstrip("KMGTBkmgtbi")
    unit = text[len(digits) :].upper().removesuffix("IB").removesuffix("B")
    try:
        value = int(float(digits) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"--memory: expected a size such as 512M, got {text!r}") from None
    if value <= 0:
        raise UsageError(f"--memory: expected more than 0, got {text!r}")
    return value


def _number(parsed: Parsed, name: str, default: float) -> float:
    if not parsed.given(name):
        return default
    try:
        value = float(parsed.value(name))
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise UsageError(f"--{name}: expected a number above 0, got {parsed.value(name)!r}")
    return value


def _follow(running: Running, timeout: float, parsed: Parsed) -> int:
    if running.console_fd >= 0:
        from casemate.host.tty import Relay

        with Relay(running.console_fd) as relay:
            relay.run(running.pid)
    status = running.wait(timeout or None)
    if status is None:
        running.kill()
        running.wait()
        print(f"casemate: ended after {timeout:g} s (--timeout)", file=sys.stderr)
        return TIMED_OUT
    if status.shell_code == 128 + 9 and running.oom_kills():
        print(f"casemate: out of memory: the limit of {parsed.value('memory')} was reached", file=sys.stderr)
    if status.signal == _SIGSYS:
        print("casemate: killed by the sandbox's seccomp policy", file=sys.stderr)
    return 128 + _ended_by[0] if _ended_by and status.signal == _SIGKILL else status.shell_code


class _Signals:
    """Signals to this process that are the program's. Caught before it starts: one that comes meanwhile is kept for it, and ends neither of the two alone."""

    def __init__(self) -> None:
        self._running: Running | None = None

    def catch(self) -> None:
        import _signal

        for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2):
            _signal.signal(number, self._caught)

    def send_on(self, running: Running) -> None:
        self._running = running
        while interruption.kept:
            _deliver(running, interruption.kept.pop(0))

    def _caught(self, number: int, _: object) -> None:
        if self._running is None:
            interruption.keep(number)
        else:
            _deliver(self._running, number)


def _deliver(running: Running, signal: int) -> None:
    """Sends a signal on. The program is process 1 of its namespace, which the kernel spares a signal's default action: then it is done here."""
    from casemate.host.process import handles_signal

    if handles_signal(running.pid, signal):
        running.kill(signal)
    else:
        _ended_by.append(signal)
        running.kill()


def _failed(error: EngineError) -> int:
    """docker's codes: 127 where the program is missing, 126 where it cannot be executed, 125 for everything else."""
    print(f"casemate: {error.message}", file=sys.stderr)
    if error.op in ("exec", "check_exec"):
        return {_ENOENT: NOT_FOUND, _EACCES: NOT_EXECUTABLE, _ENOEXEC: NOT_EXECUTABLE}.get(error.errno, OWN_FAILURE)
    return OWN_FAILURE


def _report_changes(parsed: Parsed, layer: overlay.Layer, rootfs: str) -> None:
    try:
        if parsed.flag("diff") or parsed.given("commit"):
            changes = layer.changes(rootfs)
            if parsed.flag("diff"):
                print("\n".join(f"{kind} {path}" for kind, path in changes), file=sys.stderr)
            if parsed.given("commit"):
                overlay.commit(changes, layer.upper, os.path.abspath(parsed.value("commit")))
    except OSError as error:
        raise CasemateError(f"--commit: {error.strerror or error} {error.filename or ''}".rstrip()) from None
    if parsed.flag("keep"):
        print(f"casemate: the writable layer is {layer.keep()}", file=sys.stderr)

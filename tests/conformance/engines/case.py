"""What an engine offers to the cases, and what one case on one runtime works with."""

from __future__ import annotations

import abc
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from . import image
from .command import Done, Failed

IMAGE = "example.org/conformance:1"
NAME = "casemate-conformance"
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Options:
    """What a container or an exec is started with, in no engine's words."""

    tty: bool = False
    text: str | None = None  # of standard input
    memory_mib: int | None = None
    pids: int | None = None
    volume: Path | None = None  # at /volume
    volume_read_only: bool = False
    user: str | None = None
    directory: str | None = None
    read_only: bool = False
    host_network: bool = False
    network: str = ""  # by its name; of engines that have networks
    privileged: bool = False
    extra: Sequence[str] = ()  # in the engine's own words


PLAIN = Options()


class Engine(abc.ABC):
    """A container engine with its own daemon, storage, sockets and cgroups: all below `directory`, all removed by `stop`.

    `start` may raise Failed or CalledProcessError; `stop` must follow in any case.
    """

    name: str
    programs: Sequence[str]
    code_not_found: int
    code_not_executable: int

    def __init__(self, runtimes: dict[str, str]) -> None:
        self.runtimes = runtimes
        self.directory = Path(tempfile.mkdtemp(prefix=f"{NAME}-{self.name}-"))
        self.cgroup = f"{NAME}-{self.name}-{os.getpid()}"
        self.environment = dict(os.environ)
        self.layer = self.directory / "layer.tar"
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.numbers = itertools.count(1)

    def new_name(self) -> str:
        return f"case{next(self.numbers)}"

    def start(self) -> None:
        image.root_file_system(self.layer)
        self.start_engine()

    def stop(self) -> None:
        """Ends what was started and removes what was written, whatever state it is in."""
        try:
            self.stop_engine()
        finally:
            for daemon in reversed(self.daemons):
                end(daemon)
            remove_cgroups(self.cgroup)
            remove_tree(self.directory)

    def spawn(self, argv: Sequence[str], log: str) -> None:
        """Starts a daemon; its output goes to the file `log` of the directory."""
        with (self.directory / log).open("wb") as output:
            self.daemons.append(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory, env=self.environment, start_new_session=True)
            )

    def wait_until_ready(self, probe: Callable[[], Done], log: str) -> None:
        deadline = time.monotonic() + 30
        while probe().code != 0:
            if self.daemons[-1].poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.name} did not start: {(self.directory / log).read_text(errors='replace').strip()[-300:]}")
            time.sleep(0.1)

    @abc.abstractmethod
    def start_engine(self) -> None: ...
    @abc.abstractmethod
    def stop_engine(self) -> None: ...
    @abc.abstractmethod
    def command(self, *words: str, options: Options = PLAIN) -> Done:
        """Runs a command of the engine's own."""

    @abc.abstractmethod
    def run(self, runtime: str, command: Sequence[str], options: Options) -> Done: ...
    @abc.abstractmethod
    def detach(self, runtime: str, name: str, command: Sequence[str], options: Options) -> Done: ...
    @abc.abstractmethod
    def exec(self, name: str, command: Sequence[str], options: Options) -> Done: ...
    @abc.abstractmethod
    def kill(self, name: str, signal_name: str) -> Done: ...
    @abc.abstractmethod
    def stop_container(self, name: str, grace_s: int) -> Done: ...
    @abc.abstractmethod
    def wait(self, name: str) -> int:
        """The exit code, after the end of the container."""

    @abc.abstractmethod
    def log(self, name: str) -> str: ...
    @abc.abstractmethod
    def status(self, name: str) -> str:
        """running, paused or exited."""

    @abc.abstractmethod
    def out_of_memory(self, name: str) -> bool:
        """Whether the engine was told that the container ran out of memory."""

    @abc.abstractmethod
    def pid(self, name: str) -> int: ...
    @abc.abstractmethod
    def pause(self, name: str) -> Done: ...
    @abc.abstractmethod
    def resume(self, name: str) -> Done: ...
    @abc.abstractmethod
    def processes(self, name: str) -> int:
        """How many processes the engine sees in the container."""

    @abc.abstractmethod
    def memory_shown(self, name: str) -> str:
        """The engine's own words for the memory in use."""

    @abc.abstractmethod
    def remove(self, name: str) -> Done:
        """Removes the container, ended or not; no error if there is none."""


@dataclass
class Box:
    """One case on one runtime: binds the engine's verbs to it and removes its containers afterwards."""

    engine: Engine
    runtime: str
    scratch: Path = field(default_factory=Path)
    names: list[str] = field(default_factory=list)

    def __enter__(self) -> Box:
        self.scratch = Path(tempfile.mkdtemp(dir=self.engine.directory, prefix="volume-"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in self.names:
            removed = self.engine.remove(name)
            if error is None:
                removed.expect()

    def run(self, *command: str, options: Options = PLAIN) -> Done:
        return self.engine.run(self.runtime, command, options)

    def shell(self, script: str, options: Options = PLAIN) -> Done:
        return self.run("sh", "-c", script, options=options)

    def detach(self, script: str, options: Options = PLAIN) -> str:
        name = self.engine.new_name()
        self.names.append(name)
        self.engine.detach(self.runtime, name, ["sh", "-c", script], options).expect()
        return name

    def exec(self, name: str, script: str, options: Options = PLAIN) -> Done:
        return self.engine.exec(name, ["sh", "-c", script], options)


def expect(actual: object, expected: object, what: str) -> None:
    if actual != expected:
        raise Failed(f"{what}: {str(actual)[-80:]!r}, not {expected!r}")


def until(condition: Callable[[], bool], what: str, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not so after {timeout_s:.0f} s: {what}")
        time.sleep(0.05)


def end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below the directory, innermost first."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if point == str(directory) or point.startswith(f"{directory}/")]


def remove_tree(directory: Path) -> None:
    for point in mounts_below(directory):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True, timeout=20)
    if not mounts_below(directory):  # or what is mounted there would be removed
        shutil.rmtree(directory, ignore_errors=True)


def cgroups_named(name: str) -> list[Path]:
    """The top-level cgroups of that name, in every hierarchy."""
    hierarchies = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else [path for path in CGROUPS.iterdir() if not path.is_symlink()]
    return [hierarchy / name for hierarchy in hierarchies if (hierarchy / name).is_dir()]


def remove_cgroups(name: str) -> None:
    """Ends what still runs in the cgroups of that name and removes them."""
    for top in cgroups_named(name):
        remove_cgroup(top)


def remove_cgroup(top: Path) -> None:
    cgroups = [Path(parent) for parent, _, _ in os.walk(top, topdown=False)]
    deadline = time.monotonic() + 5
    while cgroups and time.monotonic() < deadline:
        for cgroup in list(cgroups):
            try:
                for pid in (cgroup / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                cgroup.rmdir()
                cgroups.remove(cgroup)
            except FileNotFoundError:
                cgroups.remove(cgroup)
            except OSError:
                time.sleep(0.05)

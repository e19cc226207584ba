"""What the SDK's methods return and take."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from casemate.errors import CommandExit


class FileType(enum.Enum):
    """What a path is. `OTHER`: a FIFO, a socket or a device."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """A file or directory of a sandbox. `path` is absolute. `size` in bytes, `mode` the permission bits, `modified_time` in UTC."""

    name: str
    path: str
    type: FileType
    size: int
    mode: int
    uid: int
    gid: int
    modified_time: datetime
    symlink_target: str | None = None

    @property
    def permissions(self) -> str:
        """As `ls -l` shows them, without the type: rwxr-xr-x."""
        return "".join(letter if self.mode & 1 << 8 - index else "-" for index, letter in enumerate("rwxrwxrwx"))


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. `exit_code` is 128 + n for signal n. Outputs as text (UTF-8, undecodable bytes replaced) and as bytes.

    truncated: more was printed than `max_output` bytes; the beginning is kept. Times in seconds, memory in bytes (0 where unknown).
    cpu_s, max_memory: of a command in a sandbox, its own (the resident memory of its largest process); of `casemate.run`, the whole sandbox's, engine and
    cache of files included.
    """

    exit_code: int
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""
    error: str = ""
    truncated: bool = False
    signal: int | None = None
    duration_s: float = 0.0
    cpu_s: float = 0.0
    max_memory: int = 0

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode("utf-8", "replace")

    def check(self) -> CommandResult:
        """Itself, if the command succeeded. Raises CommandExit."""
        if self.exit_code != 0:
            raise CommandExit(self.error, exit_code=self.exit_code, stdout=self.stdout, stderr=self.stderr)
        return self


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A running program that `commands.run` or `pty.create` started. `pid` counts in the sandbox."""

    pid: int
    args: list[str]
    cwd: str
    is_pty: bool

    @property
    def cmd(self) -> str:
        return self.args[0] if self.args else ""


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A running sandbox. `end_at`: when its timeout ends it (None: never)."""

    sandbox_id: str
    isolation: str
    started_at: datetime
    end_at: datetime | None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a sandbox uses now, from its cgroup. Memory in bytes, processor time in seconds since its start; limits are 0 where there is none."""

    timestamp: datetime
    cpu_s: float
    memory: int
    memory_limit: int
    memory_peak: int
    processes: int
    processes_limit: int
    oom_kills: int


@dataclass(frozen=True, slots=True)
class PtySize:
    """A terminal's size in characters."""

    rows: int
    cols: int


class EventType(enum.Enum):
    """What happened in a watched directory."""

    CREATE = "create"
    WRITE = "write"
    REMOVE = "remove"
    RENAME = "rename"
    CHMOD = "chmod"


@dataclass(frozen=True, slots=True)
class FilesystemEvent:
    """One change. `name` is relative to the watched directory."""

    name: str
    type: EventType


@dataclass(frozen=True, slots=True)
class WriteEntry:
    """One file for `files.write_files`."""

    path: str
    data: str | bytes

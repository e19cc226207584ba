"""What is kept of a container between commands: one directory per container below the state root.

    <root>/<id>/            0700; made first, atomically: of a hundred creates of one id, one wins
        state.json          Record, replaced atomically by rename
        config.json         the specification as it was checked at create; later edits of the bundle change nothing
        init.sock           the first process waits here for `start`; gone once it was started
        agent.sock          the agent of an SDK sandbox
        control.sock        the sentry of a container with that isolation, or the relay of one in a guest
        oom-kills           of a container in a guest that has ended: how often its kernel killed for the memory limit, if it did
        log                 what a detached `do` has written
        sandbox.json        what the SDK's later connections need: end, metadata, working directory, user

A command killed at any instant leaves a directory with or without state.json; both can be deleted (runtime/delete.py).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from casemate import jsonlite
from casemate.errors import ContainerError, ContainerExists, ContainerNotFound, UsageError

_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_MAX_ID = 1024
STATE_FILE = "state.json"
CONFIG_FILE = "config.json"
START_SOCKET = "init.sock"
AGENT_SOCKET = "agent.sock"
CONTROL_SOCKET = "control.sock"
SANDBOX_FILE = "sandbox.json"
REPORT_FILE = "oom-kills"
LOG_FILE = "log"


def default_root() -> str:
    """Where state is kept: /run/casemate for root, below XDG_RUNTIME_DIR (or /tmp) for everybody else."""
    if os.geteuid() == 0:
        return "/run/casemate"
    base = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(base, "casemate") if base else _own_directory(f"/tmp/casemate-{os.geteuid()}")


def _own_directory(path: str) -> str:
    """Makes a directory in /tmp, where another user could have made it first, or a link. Raises UsageError if it is not ours alone to write."""
    try:
        os.mkdir(path, 0o711)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise UsageError(f"{path} is not a directory of yours alone: set XDG_RUNTIME_DIR, or use --root") from None
    return path


def check_id(container_id: str) -> str:
    """The id if it is a legal one: letters, digits and _+-. ; anything else could name another directory. Raises UsageError."""
    if not container_id or len(container_id) > _MAX_ID or container_id.startswith("."):
        raise UsageError(f"invalid container id {container_id!r}: expected 1 to {_MAX_ID} of letters, digits and _+-., not starting with a dot")
    if not _ID_LETTERS.issuperset(container_id):
        raise UsageError(f"invalid container id {container_id!r}: only letters, digits and _+-. are allowed")
    return container_id


class Record:
    """The content of state.json. Plain data; what it means is container.py's."""

    __slots__ = (
        "annotations", "bundle", "cgroup", "created", "has_mount_namespace",
        "has_pid_namespace", "id", "isolation", "name", "oci_version",
        "owner_uid", "pid", "resctrl", "rootfs", "sandbox", "scratch", "start_time", "subuid",
    )  # fmt: skip

    def __init__(self, container_id: str) -> None:
        self.id = container_id
        self.oci_version = "1.2.1"
        self.isolation = "namespaces"
        self.bundle = ""
        self.rootfs = ""
        self.created = ""
        self.owner_uid = os.getuid()
        self.pid = 0  # 0: not yet cloned
        self.start_time = 0  # clock ticks since boot; tells a reused pid from the process meant
        self.has_mount_namespace = True
        self.has_pid_namespace = True
        self.annotations: dict[str, object] = {}
        self.cgroup: dict[str, object] = {}  # Manager.to_state()
        self.resctrl = ""  # the class of service made for it
        self.scratch: list[str] = []  # directories of ours to remove with the container
        self.subuid: list[int] = []  # the range of host ids lent to it: [first, count]
        self.name = ""
        self.sandbox = ""  # the id of the pod's first container, whose sandbox this one shares (oci/pods.py)

    def to_json(self) -> str:
        return jsonlite.dumps({slot: getattr(self, slot) for slot in self.__slots__})

    @classmethod
    def from_json(cls, text: bytes, container_id: str) -> Record:
        value = jsonlite.loads(text)
        if not isinstance(value, dict):
            raise jsonlite.JsonError(f"state of container {container_id!r} is not an object")
        record = cls(container_id)
        for slot in cls.__slots__:
            if slot in value and isinstance(value[slot], type(getattr(record, slot))):
                setattr(record, slot, value[slot])
        return record


class Entry:
    """One container's directory, held open: all later paths are relative to that descriptor."""

    def __init__(self, root: str, container_id: str, fd: int) -> None:
        self.root = root
        self.id = container_id
        self.path = os.path.join(root, container_id)
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self, *, wait: bool = True) -> bool:
        """Takes the entry's lock until `close`: one verb at a time changes a container. False if held and not `wait`."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def socket_path(self, name: str) -> str:
        """A path of at most 108 bytes for bind(2) and connect(2), however deep the state root lies."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        """Replaces a file whole: a reader, or a crash, sees the old or the new content."""
        temporary = f".{name}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self.fd)
        try:
            written = 0
            while written < len(data):
                written += os.write(fd, data[written:])
        except OSError:
            os.close(fd)
            os.unlink(temporary, dir_fd=self.fd)
            raise
        os.close(fd)
        os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def load(self) -> Record | None:
        """The record; None if create ended before it wrote one. Raises ContainerError if the file is damaged: what runs could not be found by it."""
        try:
            return Record.from_json(self.read(STATE_FILE), self.id)
        except FileNotFoundError:
            return None
        except jsonlite.JsonError as error:
            raise ContainerError(
                self.id, f"the state of container {self.id!r} is damaged ({error}): end its processes, then remove {self.path} and its cgroup"
            ) from None

    def save(self, record: Record) -> None:
        self.write(STATE_FILE, record.to_json().encode())

    def remove(self) -> None:
        """Removes the directory and the files in it; nothing else is ever put there."""
        for name in os.listdir(self.fd):
            try:
                os.unlink(name, dir_fd=self.fd)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=self.fd)
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            pass


def reserve(root: str, container_id: str) -> Entry:
    """Makes a container's directory and returns it locked. Raises ContainerExists, UsageError, OSError."""
    check_id(container_id)
    os.makedirs(root, 0o711, exist_ok=True)
    path = os.path.join(root, container_id)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        raise ContainerExists(container_id) from None
    entry = open_entry(root, container_id)
    entry.lock()
    return entry


def open_entry(root: str, container_id: str) -> Entry:
    """A container's directory. Raises ContainerNotFound, UsageError."""
    check_id(container_id)
    path = os.path.join(root, container_id)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise ContainerNotFound(container_id) from None
        raise
    return Entry(root, container_id, fd)


def list_ids(root: str) -> list[str]:
    """The ids below a root, sorted; empty if there is none."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            if stat.S_ISDIR(os.lstat(os.path.join(root, name)).st_mode) and _ID_LETTERS.issuperset(name) and not name.startswith("."):
                found.append(name)
        except FileNotFoundError:
            continue
    return sorted(found)

"""A jail for a monitor of ours that somebody starts by hand: what its command line and its files name on the host, and where the jail has it.

The jail itself is the engine's `jailer`: an empty root with device files. Here, each file that is named is bound into it, each socket that the monitor
makes is in the jail's `/run`, with a link to it at the place that was named, and the files that name others are written anew with the jail's paths.
"""

from __future__ import annotations

import os
import shutil

from casemate import jsonlite
from casemate.errors import HostError, UsageError
from casemate.host import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Document = dict[str, object]

BASE = "/srv/jailer"  # Firecracker's; not below /run, where hosts allow no device files
_PREFIX = "vmm-"
_OWNER = "owner"  # of a jail whose name was drawn: the process that has it, and when that started
_READ, _WRITE = 4, 2  # a mode's bits


class Jail:
    """Its place on the host, and the words of the jailer's and the monitor's for what was shown."""

    def __init__(self, base: str, name: str, user: list[int]) -> None:
        self._home = f"{base}/casemate-engine"
        self.name = name or f"{_PREFIX}{os.urandom(4).hex()}"
        self.directory = f"{self._home}/{self.name}"
        self.root = f"{self.directory}/root"
        self.binds: list[str] = []
        self._links: list[tuple[str, str]] = []
        self._user = user
        os.makedirs(self.directory, 0o700, exist_ok=True)
        if not name:
            _forget_ended(self._home)
            pid = os.getpid()  # the monitor's: this process becomes it
            with open(f"{self.directory}/{_OWNER}", "w", encoding="ascii") as file:
                file.write(f"{pid} {process.start_time(pid)}")

    def show(self, path: str, *, writable: bool = False) -> str:
        """A file of the host's: where the jail has it. Raises HostError: its user may not use it there either."""
        self._check(path, _READ | _WRITE if writable else _READ)
        return self._bound(path, writable)

    def _bound(self, path: str, writable: bool) -> str:
        place = f"files/{len(self.binds)}"
        self.binds.append(f"--bind{'-rw' if writable else ''}={os.path.abspath(path)}={place}")
        return f"/{place}"

    def output(self, path: str) -> str:
        """A file or FIFO that the monitor writes to, made if there is none."""
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.fchown(made, *self._user)
            os.close(made)
        except FileExistsError:
            pass
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from None
        self._check(path, _WRITE)
        return self._bound(path, True)

    def socket(self, path: str) -> str:
        """A socket that the monitor makes; at `path` will be a link to it. Raises UsageError: something else is there."""
        if os.path.lexists(path) and (os.path.exists(path) or not os.path.islink(path)):
            raise UsageError(f"{path}: something is there already")
        inner = f"/run/{os.path.basename(path)}"
        self._links.append((f"{self.root}{inner}", path))
        return inner

    def link(self) -> None:
        """When nothing can go wrong any more: the links to the sockets, in place of an earlier monitor's, which lead nowhere."""
        for target, path in self._links:
            try:
                if os.path.islink(path):
                    os.unlink(path)
                os.symlink(target, path)
            except OSError as error:
                raise HostError(f"{path}: {error.strerror}") from None

    def forget(self) -> None:
        """After a failure: nothing is left, unless the jail was named and may have been there before."""
        if os.path.exists(f"{self.directory}/{_OWNER}"):
            shutil.rmtree(self.directory)

    def configuration(self, path: str) -> str:
        """What --config-file names."""
        return self._rewritten(path, self._configured, "configuration")

    def loading(self, path: str) -> str:
        """What --load-snapshot names: the body of a request to /snapshot/load."""
        return self._rewritten(path, self._loaded, "loading")

    def _check(self, path: str, wanted: int) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from None
        shift = 6 if status.st_uid == self._user[0] else 3 if status.st_gid == self._user[1] else 0
        if status.st_mode >> shift & wanted != wanted:
            reason = f"{path}: the jail's user {self._user[0]} may not {'write' if wanted & _WRITE else 'read'} it"
            raise HostError(reason, "change its mode, name its owner with --uid and --gid, or use --no-jail")

    def _rewritten(self, path: str, change: Callable[[Document], None], name: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                document = jsonlite.loads(file.read())
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        except (UnicodeDecodeError, jsonlite.JsonError) as error:
            raise UsageError(f"{path}: {error}") from None
        if not isinstance(document, dict):
            raise UsageError(f"{path}: expected an object")
        change(document)
        inner = f"{self.directory}/{name}.json"
        # Anew: the one before may be what another monitor of this name has in its jail.
        if os.path.lexists(inner):
            os.unlink(inner)
        with open(inner, "x", encoding="utf-8") as file:
            file.write(jsonlite.dumps(document))
        os.chmod(inner, 0o644)
        return self.show(inner)

    def _configured(self, document: Document) -> None:
        boot = _section(document, "boot-source")
        _change(boot, "kernel_image_path", self.show)
        _change(boot, "initrd_path", self.show)
        for disk in _rows(document, "drives"):
            self._disk(disk, "is_read_only")
        for disk in _rows(document, "pmem"):
            self._disk(disk, "read_only")
        for section in ("vsock", "console"):
            _change(_section(document, section), "uds_path", self.socket)
        for section, key in (("logger", "log_path"), ("metrics", "metrics_path"), ("serial", "serial_out_path")):
            _change(_section(document, section), key, self.output)

    def _loaded(self, document: Document) -> None:
        for key in ("snapshot_path", "mem_file_path"):
            _change(document, key, self.show)
        _change(_section(document, "mem_backend"), "backend_path", self.show)
        for disk in _rows(document, "drive_overrides"):
            _change(disk, "path_on_host", lambda path: self.show(path, writable=os.stat(path).st_mode & 0o222 != 0))
        _change(_section(document, "vsock_override"), "uds_path", self.socket)

    def _disk(self, disk: Document, read_only: str) -> None:
        _change(disk, "path_on_host", lambda path: self.show(path, writable=disk.get(read_only) is not True))


def _section(document: Document, key: str) -> Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _rows(document: Document, key: str) -> list[Document]:
    found = document.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _change(section: Document, key: str, change: Callable[[str], str]) -> None:
    """What is of another kind is the monitor's to refuse."""
    path = section.get(key)
    if isinstance(path, str) and path:
        section[key] = change(path)


def _forget_ended(home: str) -> None:
    """Removes jails whose name was drawn and whose monitor has ended: nobody can be told theirs again."""
    for name in os.listdir(home):
        try:
            with open(f"{home}/{name}/{_OWNER}", encoding="ascii") as file:
                pid, started = (int(word) for word in file.read().split())
        except (OSError, ValueError):
            continue  # named by its user, or just being made
        # Children of a fork live on in their parent's jail.
        if not process.is_same(pid, started) and not _is_somebodys(_identity(f"{home}/{name}/root")):
            shutil.rmtree(f"{home}/{name}", ignore_errors=True)


def _is_somebodys(root: tuple[int, int] | None) -> bool:
    """Whether a process has that root."""
    return root is not None and any(_identity(f"/proc/{name}/root") == root for name in os.listdir("/proc") if name.isdecimal())


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None  # it was never made, or the process has ended
    return status.st_dev, status.st_ino

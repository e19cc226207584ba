"""Machines that were booted once, up to their agent's first word, and are restored per start: the hypervisor's own file of their state.

A template is named by a digest of all that it is made of (hypervisor, kernel, first file system with the agent, command line, memory), so one of anything else
is another. It holds nothing of a container: no device that carries files is plugged in, and a guest gets time and entropy of its own after each restore.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time

from casemate.errors import HostError
from casemate.guest import store
from casemate.host.interruption import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = 4  # templates; each is as large as what a guest has touched at boot, some 90 MiB
_FAILED = ".failed"


def _to_nobody(_: str) -> None:
    """For OCI verbs, whose engines read what they say."""


# Hears how far one is that takes long to make; `do` puts its own in place.
say: Callable[[str], None] = _to_nobody


def is_wanted() -> bool:
    """CASEMATE_TEMPLATE=0 boots each machine anew."""
    return os.environ.get("CASEMATE_TEMPLATE") != "0"


def why_not() -> str:
    """Why the last attempt to make one failed; "" if it did not."""
    try:
        with open(f"{store.directory()}/templates/{_FAILED}", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def note_failure(reason: str) -> None:
    """Keeps the reason for `casemate doctor`: the machine boots instead, and nobody is told."""
    try:
        with open(f"{store.directory()}/templates/{_FAILED}", "w", encoding="utf-8") as file:
            file.write(reason)
    except OSError:
        pass  # the store cannot be written, which is a reason of its own


def state(kind: str, files: list[str], words: list[str], make: Callable[[str], None], told: str = "") -> str:
    """As `_find_or_make`; "" where no template is wanted, and where none can be made, which is noted: then the machine boots."""
    if not is_wanted():
        return ""
    try:
        return _find_or_make(kind, files, words, make, told)
    except (HostError, OSError) as error:
        note_failure(str(error))
        if told:
            say(f"it could not be saved, so this one boots: {error}")
        return ""


def _find_or_make(kind: str, files: list[str], words: list[str], make: Callable[[str], None], told: str) -> str:
    """The path of the state of a machine like this, a file or a directory.

    files, words: what it is made of.   make: boots such a machine and writes its state to the path, if there is none. Raises HostError, after which the machine
    can still be booted.
    """
    path = place(kind, files, words)
    directory = os.path.dirname(path)
    if _touch(path):
        return path
    os.makedirs(directory, 0o755, exist_ok=True)
    lock = os.open(f"{directory}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with Wait():
            fcntl.flock(lock, fcntl.LOCK_EX)  # of many starts at once, one makes it
        if not _touch(path):
            _make(path, make, told)
            _forget_older(directory)
            if os.path.lexists(f"{directory}/{_FAILED}"):
                os.unlink(f"{directory}/{_FAILED}")
        return path
    finally:
        os.close(lock)


def place(kind: str, files: list[str], words: list[str]) -> str:
    """Where a machine like this has its template, if there is one."""
    return f"{store.prepare()}/templates/{kind}-{_digest(files, words)}"


def _make(path: str, make: Callable[[str], None], told: str) -> None:
    temporary = f"{path}.new"
    began = time.monotonic()
    if told:
        say(told)
    _remove(temporary)  # of a maker that was killed: nobody else is at it while we hold the lock
    try:
        make(temporary)
        os.rename(temporary, path)
    finally:
        _remove(temporary)
    if told:
        say(f"it was booted and saved in {time.monotonic() - began:.0f} s")


def _digest(files: list[str], words: list[str]) -> str:
    """Files by what tells that they changed: a kernel and an engine are replaced whole."""
    digest = hashlib.sha256()
    for path in files:
        status = os.stat(path)
        digest.update(f"{path} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}\0".encode())
    for word in words:
        digest.update(word.encode() + b"\0")
    return digest.hexdigest()[:32]


def _touch(path: str) -> bool:
    """Whether it is there; then it was used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except PermissionError:
        pass  # another user's store, which one may read
    return True


def _forget_older(directory: str) -> None:
    paths = [f"{directory}/{name}" for name in os.listdir(directory) if not name.startswith(".") and not name.endswith(".new")]
    for path in sorted(paths, key=lambda path: os.stat(path).st_mtime_ns, reverse=True)[_KEPT:]:
        _remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)

"""Machines that were booted once, up to their agent's first word, and are restored per start: the hypervisor's own file of their state.

A template is named by a digest of all that it is made of (hypervisor, kernel, first file system with the agent, command line, memory), so one of anything else
is another. It holds nothing of a container: no device that carries files is plugged in, and a guest gets time and entropy of its own after each restore.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import subprocess
import time
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair

from casemate import jsonlite
from casemate.errors import HostError
from casemate.guest import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = 4  # templates; each is as large as what a guest has touched at boot, some 90 MiB
_FAILED = ".failed"
_BOOT_S = 60
_SAVE_S = 60


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


def find_or_make(kind: str, files: list[str], words: list[str], command: Callable[[int, int], list[str]]) -> str:
    """The path of the state of a machine like this; made by QEMU if there is none.

    files, words: what it is made of.   command: starts it, with the numbers of the descriptors of its stream to the agent and of its
    monitor. Raises HostError, after which the machine can still be booted.
    """
    directory = f"{store.prepare()}/templates"
    path = f"{directory}/{kind}-{_digest(files, words)}"
    if _touch(path):
        return path
    os.makedirs(directory, 0o755, exist_ok=True)
    lock = os.open(f"{directory}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of many starts at once, one makes it
        if not _touch(path):
            temporary = f"{path}.new"
            try:
                _make(command, temporary)
                os.chmod(temporary, 0o644)
                os.rename(temporary, path)
            finally:
                if os.path.lexists(temporary):
                    os.unlink(temporary)
            _forget_older(directory)
            if os.path.lexists(f"{directory}/{_FAILED}"):
                os.unlink(f"{directory}/{_FAILED}")
        return path
    finally:
        os.close(lock)


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
        os.unlink(path)


def _make(command: Callable[[int, int], list[str]], path: str) -> None:
    """Boots a machine, and has it write its state once its agent has spoken."""
    link, its_link = socketpair(AF_UNIX, SOCK_STREAM)
    monitor, its_monitor = socketpair(AF_UNIX, SOCK_STREAM)
    with link, its_link, monitor, its_monitor:
        words = command(its_link.fileno(), its_monitor.fileno())
        with open(path, "wb"):
            pass
        process = subprocess.Popen(
            words, pass_fds=(its_link.fileno(), its_monitor.fileno()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        its_link.close()
        its_monitor.close()
        try:
            _wait_for(link, _BOOT_S, "the agent's first word")
            qmp = _Monitor(monitor)
            qmp.ask("qmp_capabilities")
            qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            qmp.ask("migrate", uri=f"exec:cat > '{path}'")
            qmp.wait_until_saved()
        except (OSError, HostError) as error:
            process.kill()
            said = process.stderr.read().decode(errors="replace").strip()[-300:] if process.stderr else ""
            raise HostError(f"no template of a machine could be made: {error} {said}".rstrip()) from None
        finally:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()


def _wait_for(channel: socket, seconds: float, what: str) -> None:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise HostError(f"{what} did not come within {seconds:g} s")


class _Monitor:
    """QEMU's machine protocol (docs/interop/qmp-spec.txt in QEMU): a JSON object per line, and events between the answers."""

    def __init__(self, channel: socket) -> None:
        channel.settimeout(_SAVE_S)
        self._channel = channel
        self._received = b""

    def ask(self, command: str, **arguments: object) -> object:
        self._channel.sendall(jsonlite.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = jsonlite.loads(self._line())
            if not isinstance(answer, dict) or "error" in answer:
                raise HostError(f"{command}: {answer}")
            if "return" in answer:
                return answer["return"]

    def wait_until_saved(self) -> None:
        deadline = time.monotonic() + _SAVE_S
        while True:
            answer = self.ask("query-migrate")
            status = answer.get("status") if isinstance(answer, dict) else None
            if status == "completed":
                return
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise HostError(f"its state was not saved: {answer}")
            time.sleep(0.01)

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            part = self._channel.recv(65536)
            if not part:
                raise HostError("the machine ended")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line

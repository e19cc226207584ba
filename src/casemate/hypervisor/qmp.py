"""QEMU as the maker of a template: what its monitor is told, and the file of its state."""

from __future__ import annotations

import os
import time
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair

from casemate import jsonlite
from casemate.errors import HostError
from casemate.hypervisor.qemu import IGNORE_SHARED
from casemate.hypervisor.template_machine import running, wait_for_agent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SAVE_S = 60
_ZERO = bytes(4096)


def save_template(command: Callable[[int, int, int], list[str]], size: int, path: str) -> None:
    """Boots a machine, and has it write its state once its agent has spoken: `path` is a directory with that and the memory.

    command: starts it, with the numbers of the descriptors of its stream to the agent, of its monitor, and of its memory of `size` bytes. Raises HostError.
    """
    os.makedirs(path, 0o755)
    link, its_link = socketpair(AF_UNIX, SOCK_STREAM)
    monitor, its_monitor = socketpair(AF_UNIX, SOCK_STREAM)
    memory = os.memfd_create("memory", os.MFD_CLOEXEC)
    with link, its_link, monitor, its_monitor:
        os.ftruncate(memory, size)
        given = (its_link.fileno(), its_monitor.fileno(), memory)
        try:
            with running(command(*given), given, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}):
                its_link.close()
                its_monitor.close()
                wait_for_agent(link)
                qmp = _Monitor(monitor)
                qmp.ask("qmp_capabilities")
                qmp.ask("migrate-set-capabilities", **IGNORE_SHARED)
                qmp.ask("migrate", uri=f"exec:cat > '{path}/state'")
                qmp.wait_until_saved()
                _keep(memory, size, f"{path}/memory")
                os.chmod(f"{path}/state", 0o644)
        finally:
            os.close(memory)


def _keep(memory: int, size: int, path: str) -> None:
    """The memory as a file with holes where it is zero: each start copies it."""
    at = 0
    with open(path, "wb", buffering=0) as file:
        file.truncate(size)
        while True:
            try:
                at = os.lseek(memory, at, os.SEEK_DATA)
            except OSError:
                break  # ENXIO: nothing follows
            end = os.lseek(memory, at, os.SEEK_HOLE)
            for place in range(at, end, len(_ZERO)):
                page = os.pread(memory, len(_ZERO), place)
                if page != _ZERO:
                    os.pwrite(file.fileno(), page, place)
            at = end
    os.chmod(path, 0o644)


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

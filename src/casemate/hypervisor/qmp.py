"""QEMU as the maker of a template: what its monitor is told, and the file of its state."""

from __future__ import annotations

import os
import subprocess
import time
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair

from casemate import jsonlite
from casemate.errors import HostError
from casemate.hypervisor.template import wait_for_agent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SAVE_S = 60


def save_template(command: Callable[[int, int], list[str]], path: str) -> None:
    """Boots a machine, and has it write its state once its agent has spoken.

    command: starts it, with the numbers of the descriptors of its stream to the agent and of its monitor. Raises HostError.
    """
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
            wait_for_agent(link)
            qmp = _Monitor(monitor)
            qmp.ask("qmp_capabilities")
            qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            qmp.ask("migrate", uri=f"exec:cat > '{path}'")
            qmp.wait_until_saved()
            os.chmod(path, 0o644)
        except (OSError, HostError) as error:
            process.kill()
            said = process.stderr.read().decode(errors="replace").strip()[-300:] if process.stderr else ""
            raise HostError(f"no template of a machine could be made: {error} {said}".rstrip()) from None
        finally:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()


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

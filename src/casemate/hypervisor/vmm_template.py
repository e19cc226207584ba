"""Our monitor as the maker of a template: a directory with the state and the memory of a machine whose agent has spoken.

Each start maps the memory privately: the pages that no guest writes are the page cache's, once for all of them.
"""

from __future__ import annotations

import os
import tempfile
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair

from casemate import jsonlite
from casemate.errors import HostError
from casemate.hypervisor.template_machine import running, wait_for_agent
from casemate.isolation.engine_process import engine_path

_SAVE_S = 60
# What stands in for a disk that is put in its place later. Longer than any: a guest that has not heard of the change yet reads no further than what is there.
_BLANK_BYTES = 1 << 40


def save_template(configuration: str, disks: tuple[str, ...], path: str, boot_s: float) -> None:
    """Boots the machine that the document `configuration` says, with further disks, the last of them writable, and writes its state into the directory
    `path`. Raises HostError.
    """
    os.makedirs(path, 0o755)
    blank = f"{path}/blank"
    with open(blank, "wb") as file:
        file.truncate(_BLANK_BYTES)
    whole = jsonlite.loads(configuration)
    assert isinstance(whole, dict)
    whole["drives"] += [{"drive_id": name, "path_on_host": blank, "is_root_device": False, "is_read_only": name != disks[-1]} for name in disks]
    link, its_link = socketpair(AF_UNIX, SOCK_STREAM)
    with link, tempfile.TemporaryDirectory() as scratch:
        document = f"{scratch}/machine"
        with open(document, "w", encoding="utf-8") as out:
            out.write(jsonlite.dumps(whole))
        api = f"{scratch}/api"
        words = [engine_path(), "vmm", "--api-sock", api, "--config-file", document, "--console-fd", str(its_link.fileno())]
        with running(words, (its_link.fileno(),), {}):
            its_link.close()
            wait_for_agent(link, boot_s)
            _ask(api, "PATCH", "/vm", {"state": "Paused"})
            _ask(api, "PUT", "/snapshot/create", {"snapshot_path": f"{path}/state", "mem_file_path": f"{path}/memory"})
            os.unlink(blank)
            for name in ("state", "memory"):
                os.chmod(f"{path}/{name}", 0o644)


def _ask(path: str, method: str, place: str, body: dict[str, object]) -> None:
    """One request of the API of a monitor whose guest runs, and which therefore listens: it is answered with no content. Raises HostError."""
    text = jsonlite.dumps(body).encode()
    with socket(AF_UNIX, SOCK_STREAM) as connection:
        connection.settimeout(_SAVE_S)
        connection.connect(path)
        connection.sendall(f"{method} {place} HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        answer = connection.recv(65536).decode(errors="replace")
    if not answer.startswith("HTTP/1.1 204"):
        raise HostError(f"{method} {place}: {answer.splitlines()[-1] if answer else 'the monitor ended'}")

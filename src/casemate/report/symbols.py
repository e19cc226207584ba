"""Names for addresses of the engine's code: a sandbox's kernel tells where its threads are by number only."""

from __future__ import annotations

import gzip
from bisect import bisect_right

from casemate.isolation.engine_process import engine_path

_HEAD_BYTES = 4096  # the notes lie at a file's beginning


class Symbols:
    """The functions of the engine that process `pid` runs. Without their names (another version's file, or none) an address is told as it is."""

    def __init__(self, pid: int) -> None:
        self._addresses: list[int] = []
        self._names: list[str] = []
        try:
            with gzip.open(f"{engine_path()}.symbols", "rt", encoding="utf-8", errors="replace") as file:
                build_id = file.readline().strip()
                if _is_another(pid, build_id):
                    return
                for line in file:
                    address, _, name = line.rstrip("\n").partition(" ")
                    self._addresses.append(int(address, 16))
                    self._names.append(name)
        except (OSError, EOFError, ValueError):
            self._addresses.clear()

    def name(self, address: int) -> str:
        place = bisect_right(self._addresses, address) - 1
        if place < 0:
            return f"{address:#x}"
        return f"{self._names[place]}+{address - self._addresses[place]:#x}"


def _is_another(pid: int, build_id: str) -> bool:
    """Whether the process runs another engine than this. Who may not look, believes that it is the same."""
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            return bytes.fromhex(build_id) not in file.read(_HEAD_BYTES)
    except OSError:
        return False

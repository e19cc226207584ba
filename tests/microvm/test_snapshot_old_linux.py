"""Snapshots where Linux cannot scan page tables, as before 6.7 (Debian 12 has 6.1): what is right there is found by looking, or is everything.

A filter of system calls before the monitor's own answers that request as such a kernel does.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microvm.monitor import Monitor
from microvm.test_snapshot import MIB, Start, ask, begin, data_size, load, merge, snapshot

MEMORY_MIB = 32
# ioctl(2) with PAGEMAP_SCAN (linux/fs.h): ENOTTY. A filter of the classic form; offsets are those of struct seccomp_data (linux/seccomp.h).
_LOAD, _SAME, _RETURN = 0x20, 0x15, 0x06
_IOCTL, _PAGEMAP_SCAN, _ENOTTY = 16, 0xC0606610, 25
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000
_FILTER = ((_LOAD, 0, 0, 0), (_SAME, 0, 3, _IOCTL), (_LOAD, 0, 0, 24), (_SAME, 0, 1, _PAGEMAP_SCAN), (_RETURN, 0, 0, _ERRNO | _ENOTTY), (_RETURN, 0, 0, _ALLOW))
_START = """
import ctypes, os, sys
program = ctypes.create_string_buffer(bytes.fromhex(sys.argv[1]))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
given = Program((len(program) - 1) // 8, ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.byref(given), 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    """Monitors with a folder each, on such a kernel."""
    words = b"".join(struct.pack("=HBBI", *row) for row in _FILTER).hex()
    monitors: list[Monitor] = []

    def begin_one(*options: str) -> Monitor:
        folder = tmp_path / f"monitor{len(monitors)}"
        folder.mkdir()
        monitors.append(Monitor(folder, *options, prefix=(sys.executable, "-I", "-S", "-c", _START, words)))
        return monitors[-1]

    yield begin_one
    for monitor in monitors:
        monitor.close()


def test_a_full_snapshot_has_holes_where_there_are_zeroes(start: Start, guest: Path, tmp_path: Path) -> None:
    """And a copy of it, which has the file's pages below its own, is written whole."""
    original = start()
    begin(original, guest, memory_mib=MEMORY_MIB)
    path = snapshot(original, tmp_path)
    memory = path.with_suffix(".memory")
    assert (memory.stat().st_size, data_size(memory) < 6 * MIB) == (MEMORY_MIB * MIB, True)
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(path))
    assert ask(copy, "c") == "1024"
    assert ask(copy, "n") == "written"
    again = snapshot(copy, tmp_path, "again")
    assert data_size(again.with_suffix(".memory")) >= MEMORY_MIB * MIB
    second = start()
    second.ok("PUT", "/snapshot/load", load(again))
    assert ask(second, "q") == "256"


def test_a_diff_holds_every_page(start: Start, guest: Path, tmp_path: Path) -> None:
    """Right, and larger. By this the test knows, too, that the request is refused."""
    monitor = start()
    begin(monitor, guest, memory_mib=MEMORY_MIB)
    base = snapshot(monitor, tmp_path)
    assert ask(monitor, "n") == "written"
    diff = snapshot(monitor, tmp_path, "diff", "Diff")
    assert data_size(diff.with_suffix(".memory")) >= MEMORY_MIB * MIB
    merge(base.with_suffix(".memory"), diff.with_suffix(".memory"), tmp_path / "merged.memory")
    os.rename(f"{diff}.state", tmp_path / "merged.state")
    copy = start()
    copy.ok("PUT", "/snapshot/load", load(tmp_path / "merged"))
    assert ask(copy, "q") == "256"

"""What the engine is at /proc/PID/exe for a container whose root could write its file: nothing that can be written (CVE-2019-5736)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from attacks import eventually

from casemate.isolation.engine_process import engine_path

_F_GET_SEALS = 1034
_ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8
_COPY = "/memfd:casemate-engine (deleted)"
# From the root of a mount that is attached nowhere.
_ANEW = ("/casemate-engine", _COPY)


@contextmanager
def waiting_engine(*wrapper: str) -> Iterator[str]:
    """/proc/PID/exe of an engine that has executed itself anew and waits for its plan to come through a pipe."""
    plan, plan_writer = os.pipe()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [*wrapper, engine_path(), "init", "--protect", str(plan), str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=(plan, theirs.fileno())) as engine:
            try:
                link = f"/proc/{engine.pid}/exe"
                eventually(lambda: os.readlink(link) in _ANEW, "it did not execute itself anew")
                yield link
            finally:
                os.close(plan_writer)
                engine.wait(10)
                os.close(plan)


def test_it_is_seen_through_a_mount_without_a_place_for_writes() -> None:
    with waiting_engine() as exe:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(OSError) as failed:
                os.open(exe, flags)
            assert failed.value.errno == errno.EROFS
        for change in (lambda: os.chmod(exe, 0o777), lambda: os.truncate(exe, 0), lambda: os.setxattr(exe, "user.x", b"")):
            with pytest.raises(OSError) as failed:
                change()
            assert failed.value.errno == errno.EROFS


def test_its_mount_cannot_be_changed_by_who_may_mount() -> None:
    with waiting_engine() as exe:
        done = subprocess.run(["mount", "--options", "remount,bind,rw", exe], capture_output=True, check=False)
        assert done.returncode != 0
        with pytest.raises(OSError) as failed:
            os.open(exe, os.O_WRONLY)
        assert failed.value.errno == errno.EROFS


def test_it_is_a_sealed_copy_where_it_may_not_mount() -> None:
    with waiting_engine("setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin") as exe:
        assert os.readlink(exe) == _COPY
        with open(exe, "rb") as copy, open(engine_path(), "rb") as own:
            assert fcntl.fcntl(copy, _F_GET_SEALS) & _ALL_SEALS == _ALL_SEALS
            assert copy.read() == own.read()

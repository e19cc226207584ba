"""An agent that a program has taken over may answer anything: errors of ours, no traceback of another kind, nothing waited for without end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate import CasemateError, wire
from casemate.sdk import _replies
from casemate.sdk._agent import Agent

ANYTHING = st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3))


def agent_that(answers: Callable[[socket.socket], None], tmp_path: Path) -> Agent:
    """An Agent whose other side runs `answers` on each connection."""
    directory = tmp_path / "sbx-1"
    directory.mkdir(exist_ok=True)
    path = directory / "agent.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener:
            channel, _ = listener.accept()
            with channel:
                answers(channel)

    threading.Thread(target=serve, daemon=True).start()
    return Agent(str(tmp_path), "sbx-1")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xff\xff\xff", b"\x05\0\0\0ab", b"\x01\0\0\0\xc0", b"\x01\0\0\0\xc1", b"\x04\0\0\0\x81\xa2ok\xc0"[:9], wire.encode_frame({"ok": "yes"})],
)
def test_broken_frames(raw: bytes, tmp_path: Path) -> None:
    agent = agent_that(lambda channel: (channel.recv(4096), channel.sendall(raw))[1], tmp_path)
    with pytest.raises(CasemateError):
        agent.request("ping")
    agent.close()


def test_more_descriptors_than_asked_for_are_closed(tmp_path: Path) -> None:
    def answer(channel: socket.socket) -> None:
        channel.recv(4096)
        wire.send(channel, {"ok": True}, (0, 1, 2))

    agent = agent_that(answer, tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CasemateError, match="3 descriptors"):
        agent.request_descriptor("open")
    agent.close()
    assert len(os.listdir("/proc/self/fd")) <= before


@given(st.dictionaries(st.sampled_from(["ok", "errno", "message", "pid", "type", "size", "mode", "uid", "gid", "mtime_ns", "args", "cwd"]), ANYTHING))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300)
def test_any_answer_is_a_value_or_an_error_of_ours(message: dict[str, object]) -> None:
    for read in (_replies.check, lambda value: _replies.entry("/x", value), _replies.process):
        try:
            read(message)
        except CasemateError:
            pass

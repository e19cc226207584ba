"""MessagePack and frames: round trips, bounds, hostile bytes."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_STREAM, socketpair

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate import wire
from casemate.errors import WireError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_unpack_of_pack_is_the_value(value: object) -> None:
    assert wire.unpack(wire.pack(value)) == value


@given(VALUES)
def test_another_library_reads_the_same(value: object) -> None:
    assert msgspec.msgpack.decode(wire.pack(value)) == value


@given(VALUES)
def test_bytes_of_another_library_are_read(value: object) -> None:
    assert wire.unpack(msgspec.msgpack.encode(value)) == value


@given(st.binary())
def test_arbitrary_bytes_raise_only_wire_error(data: bytes) -> None:
    try:
        wire.unpack(data)
    except WireError:
        pass


def test_a_count_beyond_the_data_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(WireError, match="truncated"):
        wire.unpack(b"\xdd\xff\xff\xff\xff")


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError, match="nested"):
        wire.unpack(b"\x91" * 100 + b"\xc0")


def test_frame_carries_descriptors() -> None:
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    read_end, write_end = os.pipe()
    wire.send(ours, {"event": "console"}, (write_end,))
    message, descriptors = wire.receive(theirs)
    os.write(descriptors[0], b"through")
    assert message == {"event": "console"}
    assert os.read(read_end, 100) == b"through"
    for fd in (read_end, write_end, *descriptors):
        os.close(fd)
    ours.close()
    theirs.close()


def test_end_of_stream_is_none_and_a_cut_frame_is_an_error() -> None:
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    wire.send(ours, {"a": 1})
    ours.sendall(wire.encode_frame({"b": "cut"})[:-1])
    ours.close()
    assert wire.receive(theirs) == ({"a": 1}, [])
    with pytest.raises(WireError, match="inside a frame"):
        wire.receive(theirs)
    theirs.close()


def test_a_frame_above_the_limit_is_refused_by_both_sides() -> None:
    with pytest.raises(WireError, match="at most"):
        wire.encode_frame({"data": b"x" * wire.MAX_FRAME_BYTES})
    with pytest.raises(WireError, match="at most"):
        wire.frame_length((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))

"""MessagePack and the frames of the control protocol (docs/design/plan.md).

Written here because a library's import costs more than the coding: msgspec's 28 ms are three times a whole OCI verb. The bytes a peer
sends are hostile (a program can take over the agent beside it), so decoding is bounded in length, depth and count.
"""

from __future__ import annotations

from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET
from posix import close as _close

from casemate.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket
    from struct import Struct

MAX_FRAME_BYTES = 1 << 20
MAX_DESCRIPTORS = 16
_MAX_DEPTH = 32


def pack(value: object) -> bytes:
    """Encodes None, bool, int (64 bits, signed or unsigned), float, str, bytes, list, tuple and dict. Raises TypeError, OverflowError."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: object, out: bytearray) -> None:
    # A plan has some 1,200 values, mostly short texts and their keys: those are told by their exact type, and without a further call.
    kind = type(value)
    if kind is str:
        _pack_text(value, out)  # type: ignore[arg-type]
    elif kind is dict:
        _pack_head(len(value), out, 0x80, 15, None, 0xDE, 0xDF)  # type: ignore[arg-type]
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is str:
                _pack_text(key, out)
            else:
                _pack(key, out)
            if type(item) is str:
                _pack_text(item, out)
            else:
                _pack(item, out)
    elif kind is list or kind is tuple:
        _pack_head(len(value), out, 0x90, 15, None, 0xDC, 0xDD)  # type: ignore[arg-type]
        for item in value:  # type: ignore[attr-defined]
            if type(item) is str:
                _pack_text(item, out)
            else:
                _pack(item, out)
    elif value is None or value is True or value is False:
        out.append(0xC0 if value is None else 0xC3 if value else 0xC2)
    else:
        _pack_rest(value, out)


def _pack_text(value: str, out: bytearray) -> None:
    data = value.encode()
    length = len(data)
    if length < 32:
        out.append(0xA0 | length)
    else:
        _pack_head(length, out, None, -1, 0xD9, 0xDA, 0xDB)
    out += data


def _pack_rest(value: object, out: bytearray) -> None:
    """Numbers, bytes, and what is derived from a type."""
    if isinstance(value, int):
        _pack_int(value, out)
    elif isinstance(value, str):
        _pack_text(str(value), out)
    elif isinstance(value, dict):
        _pack(dict(value), out)
    elif isinstance(value, (list, tuple)):
        _pack(list(value), out)
    elif isinstance(value, (bytes, bytearray)):
        _pack_head(len(value), out, None, -1, 0xC4, 0xC5, 0xC6)
        out += value
    elif isinstance(value, float):
        out.append(0xCB)
        out += _float(8).pack(value)
    else:
        raise TypeError(f"{type(value).__name__} has no MessagePack form here")


def _pack_head(length: int, out: bytearray, fix: int | None, most: int, one: int | None, two: int, four: int) -> None:
    if fix is not None and length <= most:
        out.append(fix | length)
    elif one is not None and length < 1 << 8:
        out.append(one)
        out.append(length)
    elif length < 1 << 16:
        out.append(two)
        out += length.to_bytes(2, "big")
    else:
        out.append(four)
        out += length.to_bytes(4, "big")


def _pack_int(value: int, out: bytearray) -> None:
    if 0 <= value < 128:
        out.append(value)
    elif -32 <= value < 0:
        out.append(value & 0xFF)
    elif 0 <= value < 1 << 32:
        out.append(0xCE)
        out += value.to_bytes(4, "big")
    elif -(1 << 31) <= value < 0:
        out.append(0xD2)
        out += value.to_bytes(4, "big", signed=True)
    elif value >= 0:
        if value >= 1 << 64:
            raise OverflowError(f"{value} does not fit into 64 bits")
        out.append(0xCF)
        out += value.to_bytes(8, "big")
    else:
        if value < -(1 << 63):
            raise OverflowError(f"{value} does not fit into 64 bits")
        out.append(0xD3)
        out += value.to_bytes(8, "big", signed=True)


# Head: bytes, signed.
_INTEGERS = {
    0xCC: (1, False), 0xCD: (2, False), 0xCE: (4, False), 0xCF: (8, False), 0xD0: (1, True), 0xD1: (2, True), 0xD2: (4, True), 0xD3: (8, True),
}  # fmt: skip
_FLOATS = {0xCA: 4, 0xCB: 8}
# Head: bytes of the length, what it is.
_LENGTHS = {
    0xC4: (1, "bin"), 0xC5: (2, "bin"), 0xC6: (4, "bin"), 0xD9: (1, "str"), 0xDA: (2, "str"), 0xDB: (4, "str"),
    0xDC: (2, "list"), 0xDD: (4, "list"), 0xDE: (2, "map"), 0xDF: (4, "map"),
}  # fmt: skip


def _float(size: int) -> Struct:
    from _struct import Struct  # 0.25 ms, and no message of ours has a float

    return Struct(">d" if size == 8 else ">f")


def _integer(data: bytes, at: int, size: int, signed: bool = False) -> int:
    if at + size > len(data):
        raise WireError("malformed MessagePack: a number is cut off")
    return int.from_bytes(data[at : at + size], "big", signed=signed)


def unpack(data: bytes) -> object:
    """Decodes exactly one value. Raises WireError: truncated, trailing bytes, a type we do not use, nested deeper than 32."""
    try:
        value, end = _unpack(data, 0, 0)
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise WireError(f"malformed MessagePack: {error}") from None
    if end != len(data):
        raise WireError(f"{len(data) - end} bytes after the value")
    return value


def _unpack(data: bytes, at: int, depth: int) -> tuple[object, int]:
    if depth > _MAX_DEPTH:
        raise WireError(f"nested deeper than {_MAX_DEPTH}")
    head = data[at]
    at += 1
    if head < 0x80:
        return head, at
    if head >= 0xE0:
        return head - 256, at
    if head < 0x90:
        return _unpack_body("map", head & 15, data, at, depth)
    if head < 0xA0:
        return _unpack_body("list", head & 15, data, at, depth)
    if head < 0xC0:
        return _unpack_body("str", head & 31, data, at, depth)
    if head in (0xC0, 0xC2, 0xC3):
        return (None if head == 0xC0 else head == 0xC3), at
    if head in _INTEGERS:
        size, signed = _INTEGERS[head]
        return _integer(data, at, size, signed), at + size
    if head in _FLOATS:
        size = _FLOATS[head]
        if at + size > len(data):
            raise WireError("malformed MessagePack: a number is cut off")
        return _float(size).unpack_from(data, at)[0], at + size
    if head not in _LENGTHS:
        raise WireError(f"MessagePack type {head:#x} is not used here")
    size, kind = _LENGTHS[head]
    return _unpack_body(kind, _integer(data, at, size), data, at + size, depth)


def _unpack_body(kind: str, count: int, data: bytes, at: int, depth: int) -> tuple[object, int]:
    # Each element takes a byte at least: a count beyond what is left is a lie, and refusing it here bounds the memory.
    if count > len(data) - at:
        raise WireError("truncated MessagePack")
    if kind in ("str", "bin"):
        body = data[at : at + count]
        return (body.decode("utf-8") if kind == "str" else body), at + count
    if kind == "list":
        items: list[object] = []
        for _ in range(count):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        return items, at
    result: dict[object, object] = {}
    for _ in range(count):
        key, at = _unpack(data, at, depth + 1)
        if not isinstance(key, str):
            raise WireError("a map's key is not a string")
        result[key], at = _unpack(data, at, depth + 1)
    return result, at


def encode_frame(message: dict[str, object]) -> bytes:
    """A message with its length before it. Raises WireError above MAX_FRAME_BYTES."""
    body = pack(message)
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"frame of {len(body)} bytes, at most {MAX_FRAME_BYTES}")
    return len(body).to_bytes(4, "little") + body


def frame_length(header: bytes) -> int:
    """The body's length from a frame's first four bytes. Raises WireError above MAX_FRAME_BYTES."""
    length = int.from_bytes(header[:4], "little")
    if length > MAX_FRAME_BYTES:
        raise WireError(f"frame of {length} bytes, at most {MAX_FRAME_BYTES}")
    return length


def decode_body(body: bytes) -> dict[str, object]:
    """A frame's body as a map. Raises WireError."""
    message = unpack(body)
    if not isinstance(message, dict):
        raise WireError("a frame holds one map")
    return message


def send(channel: Socket, message: dict[str, object], descriptors: tuple[int, ...] = ()) -> None:
    """Sends one frame on a blocking stream socket; descriptors ride on its first byte. Raises OSError, WireError."""
    frame = encode_frame(message)
    if descriptors:
        payload = b"".join(fd.to_bytes(4, "little") for fd in descriptors)
        sent = channel.sendmsg([frame], [(SOL_SOCKET, SCM_RIGHTS, payload)])
        frame = frame[sent:]
    if frame:
        channel.sendall(frame)


def receive(channel: Socket) -> tuple[dict[str, object] | None, list[int]]:
    """Receives one frame from a blocking stream socket: (message or None at end of stream, descriptors, which the caller closes).

    Raises WireError (nothing stays open then), OSError.
    """
    header, descriptors = _receive_exactly(channel, 4, MAX_DESCRIPTORS)
    if not header:
        return None, descriptors
    try:
        if len(header) < 4:
            raise WireError("stream ended inside a frame")
        length = frame_length(header)
        body, more = _receive_exactly(channel, length, MAX_DESCRIPTORS)
        descriptors += more
        if len(body) < length:
            raise WireError("stream ended inside a frame")
        return decode_body(body), descriptors
    except BaseException:
        for fd in descriptors:
            _close(fd)
        raise


def _receive_exactly(channel: Socket, length: int, most_descriptors: int) -> tuple[bytes, list[int]]:
    data = b""
    descriptors: list[int] = []
    while len(data) < length:
        try:
            part, ancillary, _, _ = channel.recvmsg(length - len(data), CMSG_LEN(4 * most_descriptors), MSG_CMSG_CLOEXEC)
        except InterruptedError:
            continue
        except ConnectionResetError:
            break
        for level, kind, payload in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                whole = len(payload) - len(payload) % 4
                descriptors += [int.from_bytes(payload[i : i + 4], "little") for i in range(0, whole, 4)]
        if not part:
            break
        data += part
    return data, descriptors

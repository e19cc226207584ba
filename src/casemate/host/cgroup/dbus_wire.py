"""D-Bus's wire format (D-Bus Specification, "Marshaling"), as far as systemd's manager needs it. Little endian, protocol version 1."""

from __future__ import annotations

import struct
from typing import Any

_FIXED = {"y": "<B", "b": "<I", "n": "<h", "q": "<H", "i": "<i", "u": "<I", "x": "<q", "t": "<Q", "d": "<d"}
_ALIGNMENT = {"y": 1, "n": 2, "q": 2, "g": 1, "v": 1, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
MAX_MESSAGE = 1 << 20  # the specification allows 128 MiB; systemd's answers here are some hundred bytes
_MAX_DEPTH = 32


class DbusError(Exception):
    """The peer's message is malformed, or it answered with an error; `name` is the error's D-Bus name."""

    def __init__(self, text: str, name: str = "") -> None:
        self.name = name
        super().__init__(text)


def split_signature(signature: str) -> list[str]:
    """The single complete types of a signature: `sa(sv)u` -> `s`, `a(sv)`, `u`. Raises DbusError."""
    types = []
    position = 0
    while position < len(signature):
        end = _type_end(signature, position, 0)
        types.append(signature[position:end])
        position = end
    return types


def _type_end(signature: str, start: int, depth: int) -> int:
    if start >= len(signature) or depth > _MAX_DEPTH:
        raise DbusError(f"malformed signature {signature!r}")
    code = signature[start]
    if code == "a":
        return _type_end(signature, start + 1, depth + 1)
    if code in "({":
        position = start + 1
        closing = ")" if code == "(" else "}"
        while position < len(signature) and signature[position] != closing:
            position = _type_end(signature, position, depth + 1)
        if position >= len(signature):
            raise DbusError(f"malformed signature {signature!r}")
        return position + 1
    if code in _FIXED or code in "sogvh":
        return start + 1
    raise DbusError(f"malformed signature {signature!r}")


def marshal(signature: str, values: list[Any]) -> bytes:
    """Values as bytes, aligned from 0. A variant is a (signature, value) tuple, an array a list, a structure a tuple."""
    out = bytearray()
    for one, value in zip(split_signature(signature), values, strict=True):
        _write(out, one, value)
    return bytes(out)


def _pad(out: bytearray, alignment: int) -> None:
    out.extend(bytes(-len(out) % alignment))


def _write(out: bytearray, signature: str, value: Any) -> None:
    code = signature[0]
    _pad(out, _ALIGNMENT.get(code, 4))
    if code in _FIXED:
        out += struct.pack(_FIXED[code], value)
    elif code in "so":
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    elif code == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif code == "v":
        inner, content = value
        _write(out, "g", inner)
        _write(out, inner, content)
    elif code == "a":
        _write_array(out, signature[1:], value)
    else:
        for one, item in zip(split_signature(signature[1:-1]), value, strict=True):
            _write(out, one, item)


def _write_array(out: bytearray, item_signature: str, items: list[Any]) -> None:
    place = len(out)
    out += bytes(4)
    _pad(out, _ALIGNMENT.get(item_signature[0], 4))  # not counted in the length
    start = len(out)
    for item in items:
        _write(out, item_signature, item)
    struct.pack_into("<I", out, place, len(out) - start)


class Reader:
    """Takes values from a message's bytes. Every length is checked against what is there. Raises DbusError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def read_all(self, signature: str) -> list[Any]:
        return [self._read(one, 0) for one in split_signature(signature)]

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise DbusError("message ends early")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def _align(self, alignment: int) -> None:
        self._take(-self._position % alignment)

    def _text(self, length_format: str) -> str:
        (length,) = struct.unpack(length_format, self._take(struct.calcsize(length_format)))
        text = self._take(length)
        self._take(1)
        return text.decode("utf-8", "replace")

    def _read(self, signature: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise DbusError("message is nested too deep")
        code = signature[0]
        self._align(_ALIGNMENT.get(code, 4))
        if code in _FIXED or code == "h":
            form = _FIXED.get(code, "<I")
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if code in "so":
            return self._text("<I")
        if code == "g":
            return self._text("<B")
        if code == "v":
            inner = split_signature(self._text("<B"))
            if len(inner) != 1:
                raise DbusError("a variant holds one value")
            return self._read(inner[0], depth + 1)
        if code == "a":
            return self._read_array(signature[1:], depth + 1)
        return tuple(self._read(one, depth + 1) for one in split_signature(signature[1:-1]))

    def _read_array(self, item_signature: str, depth: int) -> list[Any]:
        (length,) = struct.unpack("<I", self._take(4))
        self._align(_ALIGNMENT.get(item_signature[0], 4))
        end = self._position + length
        if end > len(self._data):
            raise DbusError("message ends early")
        items = []
        while self._position < end:
            before = self._position
            items.append(self._read(item_signature, depth))
            if self._position == before:
                raise DbusError("an array of nothing")
        return items

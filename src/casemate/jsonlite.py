"""JSON without the json package, whose import costs 8 ms that each OCI verb would pay.

The scanner and the encoder are CPython's own C ones (`_json`); the wrong input's exception comes from json.decoder, imported
only then.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

_WHITESPACE = " \t\n\r"


class JsonError(ValueError):
    """The text is not JSON; the message has line and column."""


class _Duplicate(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(key)
            seen.add(key)
    return result


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value - value != 0:
        raise ValueError(f"{digits[:40]} is too large a number")  # it would be written as inf, which is not JSON
    return value


class _Context:
    """What the C scanner reads from json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object_without_duplicates)
    parse_float = staticmethod(_finite)
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}  # noqa: RUF012  (read by the C scanner)


_scan = make_scanner(_Context)  # type: ignore[arg-type]


def loads(text: str | bytes) -> object:
    """Parses one JSON text. Raises JsonError: not JSON, a key twice in one object (two readers would see two values), nested too deep,
    a number beyond a double's range, or a whole one of more than 4,300 digits."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise JsonError(f"not UTF-8: byte {error.start}") from None
    start = 0
    while start < len(text) and text[start] in _WHITESPACE:
        start += 1
    try:
        value, end = _scan_text(text, start)
    except StopIteration as error:
        raise JsonError(f"no value at {_position(text, error.value)}") from None
    except RecursionError:
        raise JsonError("nested too deep") from None
    except _Duplicate as error:
        raise JsonError(f"key {error.key!r} stands twice in one object") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    while end < len(text) and text[end] in _WHITESPACE:
        end += 1
    if end != len(text):
        raise JsonError(f"more text after the value at {_position(text, end)}")
    return value


def _scan_text(text: str, start: int) -> tuple[object, int]:
    try:
        result = _scan(text, start)
    except SystemError:
        # The C scanner raises json.decoder's exception only if that module is loaded, and otherwise returns without one.
        import json.decoder  # noqa: F401

        result = _scan(text, start)
    value, end = result
    return value, int(end)


def _position(text: str, index: int) -> str:
    line = text.count("\n", 0, index) + 1
    column = index - text.rfind("\n", 0, index)
    return f"line {line} column {column}"


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


# markers, default, encoder, indent, separators, sort_keys, skipkeys, allow_nan: as json.encoder calls it. It knows no indentation.
_encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)


def dumps(value: object, *, indent: int = 0) -> str:
    """Writes dicts with string keys, lists, tuples, str, int, float, bool and None as JSON. Raises TypeError for anything else, ValueError for a NaN."""
    if not indent:
        return "".join(_encode(value, 0))  # a specification in 0.05 ms, where the writer below takes 0.6
    parts: list[str] = []
    _write(value, parts, indent, 0)
    return "".join(parts)


def _write(value: object, parts: list[str], indent: int, level: int) -> None:
    if isinstance(value, str):
        parts.append(encode_basestring_ascii(value))
    elif value is None or value is True or value is False:
        parts.append("null" if value is None else "true" if value else "false")
    elif isinstance(value, (int, float)):
        parts.append(repr(value))
    elif isinstance(value, dict):
        _write_items(((encode_basestring_ascii(key), item) for key, item in value.items()), "{}", parts, indent, level)
    elif isinstance(value, (list, tuple)):
        _write_items(((None, item) for item in value), "[]", parts, indent, level)
    else:
        _refuse(value)


def _write_items(items: object, brackets: str, parts: list[str], indent: int, level: int) -> None:
    newline = "\n" + " " * (indent * (level + 1))
    first = True
    parts.append(brackets[0])
    for key, item in items:  # type: ignore[attr-defined]
        if not first:
            parts.append(",")
        parts.append(newline)
        first = False
        if key is not None:
            parts.append(key)
            parts.append(": ")
        _write(item, parts, indent, level + 1)
    if not first:
        parts.append("\n" + " " * (indent * level))
    parts.append(brackets[1])

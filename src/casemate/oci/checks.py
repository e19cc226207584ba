"""Checks of JSON values against a declarative schema. A schema is a tuple made by the functions below; `check` walks value and schema together.

Unknown properties are no error (runtime-spec, config.md "Extensibility"); they are collected, so that a misspelt limit is seen.
"""

from __future__ import annotations

from casemate.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Schema = tuple[object, ...]

U32 = (0, (1 << 32) - 1)
I64 = (-(1 << 63), (1 << 63) - 1)
U64 = (0, (1 << 64) - 1)
_MAX_DEPTH = 64


def text(*, allowed: tuple[str, ...] = (), absolute: bool = False, least: int = 0, rule: Callable[[str], str] | None = None) -> Schema:
    """A string without NUL. `rule` returns what is expected, or "" where the value is right."""
    return ("text", allowed, absolute, least, rule)


def integer(least: int, most: int) -> Schema:
    return ("integer", least, most)


def boolean() -> Schema:
    return ("boolean",)


def items(of: Schema, *, least: int = 0) -> Schema:
    return ("items", of, least)


def mapping(of: Schema) -> Schema:
    """An object with arbitrary keys."""
    return ("mapping", of)


def fields(required: str = "", /, **known: Schema) -> Schema:
    """An object with these properties, of which the (space separated) `required` must be there. null counts as absent."""
    return ("fields", tuple(required.split()), known)


def anything() -> Schema:
    return ("anything",)


def known(value: object, schema: Schema) -> object:
    """What of a checked value the schema names. Unknown properties are left out, and nulls, which count as absent."""
    if schema[0] == "fields":
        names: dict[str, Schema] = schema[2]  # type: ignore[assignment]
        return {name: known(item, names[name]) for name, item in value.items() if name in names and item is not None}  # type: ignore[attr-defined]
    if schema[0] == "items" and schema[1][0] == "fields":  # type: ignore[index]
        return [known(item, schema[1]) for item in value]  # type: ignore[attr-defined, arg-type]
    return value


def shown(name: str) -> str:
    """A property's name for a message of one line: as it is, or escaped."""
    return name if name.isprintable() else ascii(name)


class Checker:
    """One walk: knows the file for its errors and collects the unknown properties."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.unknown: list[tuple[str, str, tuple[str, ...]]] = []  # path, name, known names

    def check(self, value: object, schema: Schema, path: str, depth: int = 0) -> None:
        """Raises SpecError where the value does not fit."""
        if depth > _MAX_DEPTH:
            raise self.error(path, None, f"at most {_MAX_DEPTH} levels of nesting")
        kind = schema[0]
        if kind == "text":
            self._text(value, schema, path)
        elif kind == "integer":
            _, least, most = schema
            if type(value) is not int or not least <= value <= most:  # type: ignore[operator]
                raise self.error(path, value, f"an integer from {least} to {most}")
        elif kind == "boolean":
            if not isinstance(value, bool):
                raise self.error(path, value, "true or false")
        elif kind == "items":
            self._items(value, schema, path, depth)
        elif kind == "mapping":
            if not isinstance(value, dict):
                raise self.error(path, value, "an object")
            for key, item in value.items():
                self._text(key, ("text", (), False, 1, None), f"{path} key")
                self.check(item, schema[1], f"{path}.{shown(key)}", depth + 1)  # type: ignore[arg-type]
        elif kind == "fields":
            self._fields(value, schema, path, depth)
        else:
            self._nesting(value, path, depth)

    def error(self, path: str, value: object, expected: str) -> SpecError:
        return SpecError(file=self.file, json_path=path, value=value, expected=expected)

    def _text(self, value: object, schema: Schema, path: str) -> None:
        _, allowed, absolute, least, rule = schema
        if not isinstance(value, str):
            raise self.error(path, value, "a string")
        if "\0" in value:
            raise self.error(path, value, "a string without NUL bytes")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(path, value, "a string of Unicode characters (no lone surrogates)") from None
        if allowed and value not in allowed:  # type: ignore[operator]
            raise self.error(path, value, f"one of {', '.join(allowed)}")  # type: ignore[arg-type]
        if absolute and not value.startswith("/"):
            raise self.error(path, value, "an absolute path")
        if len(value) < least:  # type: ignore[operator]
            raise self.error(path, value, "a string that is not empty")
        expected = rule(value) if rule else ""  # type: ignore[operator]
        if expected:
            raise self.error(path, value, expected)

    def _items(self, value: object, schema: Schema, path: str, depth: int) -> None:
        _, of, least = schema
        if not isinstance(value, list):
            raise self.error(path, value, "an array")
        if len(value) < least:  # type: ignore[operator]
            raise self.error(path, value, f"an array of at least {least}")
        for index, item in enumerate(value):
            self.check(item, of, f"{path}[{index}]", depth + 1)  # type: ignore[arg-type]

    def _fields(self, value: object, schema: Schema, path: str, depth: int) -> None:
        _, required, known = schema
        if not isinstance(value, dict):
            raise self.error(path, value, "an object")
        prefix = f"{path}." if path else ""
        for name in required:  # type: ignore[attr-defined]
            if value.get(name) is None:
                raise self.error(f"{prefix}{name}", None, "a value: the field is required")
        for name, item in value.items():
            inner = known.get(name)  # type: ignore[attr-defined]
            if inner is None:
                if "." not in name:
                    self.unknown.append((path, name, tuple(known)))  # type: ignore[arg-type]
                self._nesting(item, f"{prefix}{shown(name)}", depth + 1)
            elif item is not None:
                self.check(item, inner, f"{prefix}{name}", depth + 1)

    def _nesting(self, value: object, path: str, depth: int) -> None:
        """What nobody looks into is kept and written all the same, by code that recurses."""
        if depth > _MAX_DEPTH:
            raise self.error(path, None, f"at most {_MAX_DEPTH} levels of nesting")
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            self._nesting(item, path, depth + 1)

"""The configuration file: the user's own ($XDG_CONFIG_HOME/casemate/config.toml) over the host's (/etc/casemate/config.toml)."""

from __future__ import annotations

import os

from casemate.errors import SpecError

SYSTEM_FILE = "/etc/casemate/config.toml"
_KEYS = {"isolation": str, "hypervisor": str}


def user_file() -> str:
    """The path of the user's own file, whether or not it exists."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.environ.get("HOME") or "/", ".config")
    return os.path.join(base, "casemate", "config.toml")


def configured(key: str) -> object:
    """The value of a key, or None. Raises SpecError for a file that is wrong."""
    for path in (user_file(), SYSTEM_FILE):
        if os.path.exists(path):
            value = _load(path).get(key)
            if value is not None:
                return value
    return None


def _load(path: str) -> dict[str, object]:
    import tomllib

    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(file=path, json_path="", value=str(error), expected="TOML") from None
    for key, value in values.items():
        if key not in _KEYS:
            raise SpecError(file=path, json_path=key, value=value, expected=f"one of the keys {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise SpecError(file=path, json_path=key, value=value, expected=f"a {_KEYS[key].__name__}")
    return values

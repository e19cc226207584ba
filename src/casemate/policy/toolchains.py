"""A program that PATH finds below a hidden directory still runs: its installation is shown read-only, and nothing beside it.

pyenv, nvm, virtual environments, cargo and ~/.local put programs into a home, which a sandbox does not see.
"""

from __future__ import annotations

import os

from casemate.policy.hidden import DIRECTORIES

_MAX_LINKS = 16
_SHEBANG_BYTES = 256


def find_program(name: str, search_path: str) -> str:
    """The first executable file of that name; empty if there is none. A name with a slash is itself."""
    if "/" in name:
        return name
    for directory in search_path.split(":"):
        path = os.path.join(directory or ".", name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return os.path.abspath(path)
    return ""


def installations(program: str) -> list[str]:
    """The directories to show so that `program` (an absolute path) runs: those of each file on its chain of links, of its interpreter's, and of a
    virtual environment's base. Empty if nothing of it is hidden."""
    shown: list[str] = []
    queue = [program]
    seen: set[str] = set()
    while queue and len(seen) < _MAX_LINKS:
        path = queue.pop()
        if path in seen or not os.path.lexists(path):
            continue
        seen.add(path)
        if is_hidden(path):
            prefix = _prefix(path)
            if prefix not in shown:
                shown.append(prefix)
            queue += _base_of_environment(prefix)
        if os.path.islink(path):
            queue.append(os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path))))
        else:
            queue += _interpreter(path)
    return [path for path in shown if not any(path != other and path.startswith(other + "/") for other in shown)]


def is_hidden(path: str) -> bool:
    return any(path == hidden or path.startswith(hidden + "/") for hidden, _ in DIRECTORIES)


def _prefix(path: str) -> str:
    """The installation a file belongs to: what holds its bin directory. A file elsewhere is shown alone."""
    directory = os.path.dirname(path)
    if os.path.basename(directory) == "shims" and os.path.isdir(os.path.join(os.path.dirname(directory), "versions")):
        return os.path.dirname(directory)  # pyenv, rbenv: a shim runs any of the versions
    if os.path.basename(directory) not in ("bin", "sbin", "libexec"):
        return path
    prefix = os.path.dirname(directory)
    # A home itself (~/bin) is no installation: showing it would show everything.
    return directory if _is_home(prefix) else prefix


def _is_home(path: str) -> bool:
    return path in ("/root", "/home") or os.path.dirname(path) == "/home" or path == os.path.expanduser("~")


def _interpreter(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            line = file.read(_SHEBANG_BYTES).split(b"\n")[0]
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = line[2:].split()
    return [words[0].decode("utf-8", "surrogateescape")] if words else []


def _base_of_environment(prefix: str) -> list[str]:
    """The interpreter that a virtual environment was made of."""
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            lines = file.read(8192).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    homes = [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == "home"]
    return [os.path.join(home, "python3") for home in homes]

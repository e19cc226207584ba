"""All modules of the verbs in one file, as the launcher reads it.

Fifty imports cost a verb 9 ms: for each, directories are searched and a file is read. The cache is one read; code is unmarshalled when its module is
imported. It lies in `__pycache__` beside the package, is made by the first command that may write there, and is not used unless each source has the size and
time that it was made from: exactly what Python asks of its own .pyc files.
"""

from __future__ import annotations

import sys
from marshal import dumps, loads
from posix import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    Entry = tuple[str, bool, int, int, bytes]  # path, is a package, mtime in ns, size, marshalled code

# Not the verbs': left to the ordinary import.
_LEFT_OUT = ("casemate.sdk", "casemate.report", "casemate.serve")


class Finder:
    """Finds the package's modules in the cache (importlib.abc.MetaPathFinder and Loader, without importing importlib)."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        entry = self._entries.get(name)
        if entry is None:
            return None
        spec = _ModuleSpec(name, self, origin=entry[0], is_package=entry[1])
        if entry[1]:
            spec.submodule_search_locations.append(entry[0].rpartition("/")[0])
        spec.has_location = True
        return spec

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        code: CodeType = loads(self._entries[module.__name__][4])
        exec(code, module.__dict__)


_ModuleSpec = sys.modules["_frozen_importlib"].ModuleSpec


def install(entries: dict[str, Entry]) -> bool:
    """Puts the finder first if no source changed since; returns whether it did."""
    try:
        for path, _, mtime, size, _ in entries.values():
            found = stat(path)
            if found.st_mtime_ns != mtime or found.st_size != size:
                return False
    except OSError:
        return False
    sys.meta_path.insert(0, Finder(entries))  # type: ignore[arg-type]
    return True


def path_of(package: str) -> str:
    """The cache of the package in directory `package`, for this Python."""
    return f"{package}/__pycache__/lean.{sys.implementation.cache_tag}.bin"


def build(package: str) -> None:
    """Makes the cache; does nothing where it may not write."""
    import os

    entries = {}
    for base, directories, files in os.walk(package):
        directories[:] = [name for name in directories if name != "__pycache__"]
        for file in files:
            if file.endswith(".py"):
                name, entry = _entry(package, os.path.join(base, file))
                if not name.startswith(_LEFT_OUT):
                    entries[name] = entry
    target = path_of(package)
    temporary = f"{target}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(temporary, "wb") as out:
            out.write(dumps((entries.pop("casemate.lean_cache")[4], entries)))
        os.replace(temporary, target)
    except OSError:
        pass


def _entry(package: str, path: str) -> tuple[str, Entry]:
    status = stat(path)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True, optimize=2)
    parts = ["casemate", *path[len(package) + 1 :].removesuffix(".py").split("/")]
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return name, (path, is_package, status.st_mtime_ns, status.st_size, dumps(code))

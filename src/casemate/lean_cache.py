"""All modules of the verbs in one file, as the launcher reads it.

Fifty imports cost a verb 9 ms: for each, directories are searched and a file is read. The cache is one open file; a module's code is read and unmarshalled
when it is imported, unless its source no longer has the size and time that the code was made from: exactly what Python asks of its own .pyc files. It lies in
`__pycache__` beside the package and is made by the first command that may write there.

The file: `LEAN`; 8 bytes with the length of the index, little-endian; the index, marshalled: (this module's code, {name: Entry}); then the modules' code.
A command that found it missing, broken or stale makes it anew when it is done.
"""

from __future__ import annotations

import sys
from marshal import dumps, loads
from posix import pread, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from posix import stat_result
    from types import CodeType, ModuleType

    Entry = tuple[str, bool, int, int, int, int]  # path, is a package, mtime in ns, size; offset and length of the marshalled code

# Not the verbs': left to the ordinary import.
_LEFT_OUT = ("casemate.sdk", "casemate.report", "casemate.serve")
MAGIC = b"LEAN"


class Finder:
    """Finds the package's modules in the cache (importlib.abc.MetaPathFinder and Loader, without importing importlib). `fd` stays open.

    base: where the modules' code begins in `fd`.   is_stale: something was not as the cache has it.
    """

    def __init__(self, package: str, fd: int, base: int, entries: dict[str, Entry], is_stale: bool = False) -> None:
        self.package = package
        self.is_stale = is_stale
        self._fd = fd
        self._base = base
        self._entries = entries

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        entry = self._entries.get(name)
        if entry is None or not _is_true(entry):
            self.is_stale |= name.startswith("casemate.") and not name.startswith(_LEFT_OUT)
            return None
        spec = _ModuleSpec(name, self, origin=entry[0], is_package=entry[1])
        if entry[1]:
            spec.submodule_search_locations.append(entry[0].rpartition("/")[0])
        spec.has_location = True
        return spec

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        entry = self._entries[module.__name__]
        code: CodeType = loads(pread(self._fd, entry[5], self._base + entry[4]))
        exec(code, module.__dict__)


_ModuleSpec = sys.modules["_frozen_importlib"].ModuleSpec


def _is_true(entry: Entry) -> bool:
    try:
        found = stat(entry[0])
    except OSError:
        return False
    return found.st_mtime_ns == entry[2] and found.st_size == entry[3]


def install(package: str, fd: int, base: int, entries: dict[str, Entry]) -> Finder:
    """Puts the finder first, and returns it."""
    finder = Finder(package, fd, base, entries)
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    return finder


def path_of(package: str) -> str:
    """The cache of the package in directory `package`, for this Python."""
    return f"{package}/__pycache__/lean.{sys.implementation.cache_tag}.bin"


def build(package: str) -> None:
    """Makes the cache; does nothing where it may not write."""
    import os

    entries: dict[str, Entry] = {}
    body = bytearray()
    for base, directories, files in os.walk(package):
        directories[:] = [name for name in directories if name != "__pycache__"]
        for file in files:
            path = os.path.join(base, file)
            name, is_package = _name_of(path[len(package) + 1 :])
            if file.endswith(".py") and not name.startswith(_LEFT_OUT):
                status, code = _compiled(path)
                entries[name] = (path, is_package, status.st_mtime_ns, status.st_size, len(body), len(code))
                body += code
    own = entries.pop("casemate.lean_cache")
    index = dumps((loads(body[own[4] : own[4] + own[5]]), entries))
    target = path_of(package)
    temporary = f"{target}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(temporary, "wb") as out:
            out.write(MAGIC + len(index).to_bytes(8, "little") + index + body)
        os.replace(temporary, target)
    except OSError:
        pass


def _name_of(relative: str) -> tuple[str, bool]:
    parts = ["casemate", *relative.removesuffix(".py").split("/")]
    return (".".join(parts[:-1]), True) if parts[-1] == "__init__" else (".".join(parts), False)


def _compiled(path: str) -> tuple[stat_result, bytes]:
    """Without `from __future__ import annotations`, which is a flag of the compiler here: as a statement it imports a file (0.3 ms)."""
    import __future__

    import ast

    status = stat(path)
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    flags = __future__.annotations.compiler_flag
    return status, dumps(compile(tree, path, "exec", flags=flags, dont_inherit=True, optimize=2))

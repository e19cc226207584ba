"""All modules of the verbs in one file, as the launcher reads it.

Seventy imports cost a verb 15 ms: for each, directories are searched and a file is read. The cache is one open file. A module's code is read and unmarshalled
when it is imported, after that of what it imports itself, which is loaded here without importlib (another 1.7 ms). It is used unless its source has no longer
the size and time that it was made from: exactly what Python asks of its own .pyc files. The file lies in `__pycache__` beside the package and is made by the
first command that may write there.

The file: `LEAN`; 8 bytes with the length of the index, little-endian; the index, marshalled: (this module's code, {name: Entry}); then the modules' code.
A command that found it missing, broken or stale makes it anew when it is done.
"""

from __future__ import annotations

import sys
from marshal import dumps, loads
from posix import pread, stat
from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from importlib.machinery import ModuleSpec
    from posix import stat_result
    from types import CodeType, ModuleType

    # path, is a package, mtime in ns, size; offset and length of the marshalled code; which of our modules its first lines import
    Entry = tuple[str, bool, int, int, int, int, tuple[str, ...]]

# Not the verbs': left to the ordinary import.
_LEFT_OUT = ("casemate.sdk", "casemate.report", "casemate.serve")
MAGIC = b"LEAN"
# Of CPython's own, what every verb uses and builds differ in having inside.
_LIBRARIES = ("_json", "_socket", "fcntl")


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
        if name in _LIBRARIES:
            return _library(name)
        entry = self._entries.get(name)
        if entry is None or not _is_true(entry):
            self.is_stale |= name.startswith("casemate.") and not name.startswith(_LEFT_OUT)
            return None
        if not entry[1]:  # a package's first lines may be there for its modules
            self._load_all(entry[6], {name})
        return self._spec(name, entry)

    def _spec(self, name: str, entry: Entry) -> ModuleSpec:
        spec: ModuleSpec = _ModuleSpec(name, self, origin=entry[0], is_package=entry[1])
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(entry[0].rpartition("/")[0])
        spec.has_location = True
        return spec

    def _load_all(self, names: tuple[str, ...], begun: set[str]) -> None:
        """Loads modules and what they need in the order in which their own lines would: an import of what is there already costs a microsecond."""
        for name in names:
            if name in modules or name in begun:
                continue
            begun.add(name)
            entry = self._entries[name]
            parent, _, own = name.rpartition(".")
            if parent not in modules or not _is_true(entry):
                continue  # left to importlib
            if not entry[1]:
                self._load_all(entry[6], begun)
                if name in modules:
                    continue  # it stands in a circle of imports
            module = _Module(name)
            values = module.__dict__
            values["__file__"] = entry[0]
            values["__loader__"] = self
            values["__package__"] = name if entry[1] else parent
            values["__spec__"] = spec = self._spec(name, entry)
            if entry[1]:
                values["__path__"] = spec.submodule_search_locations
            modules[name] = module
            try:
                self.exec_module(module)
            except BaseException:
                del modules[name]
                raise
            setattr(modules[parent], own, module)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        entry = self._entries[module.__name__]
        code: CodeType = loads(pread(self._fd, entry[5], self._base + entry[4]))
        exec(code, module.__dict__)


_Module = type(sys)
_ModuleSpec = modules["_frozen_importlib"].ModuleSpec


def _is_true(entry: Entry) -> bool:
    try:
        found = stat(entry[0])
    except OSError:
        return False
    return found.st_mtime_ns == entry[2] and found.st_size == entry[3]


def _library(name: str) -> ModuleSpec | None:
    """A library of the interpreter's, where it is a file of its own: without the listing of directories that importlib looks in (0.3 ms of three's 0.8)."""
    if name in sys.builtin_module_names:
        return None
    import _imp

    for directory in sys.path:
        if directory.endswith("/lib-dynload"):
            path = f"{directory}/{name}{_imp.extension_suffixes()[0]}"
            try:
                stat(path)
            except OSError:
                return None
            loader = modules["_frozen_importlib_external"].ExtensionFileLoader(name, path)
            spec: ModuleSpec = _ModuleSpec(name, loader, origin=path)
            spec.has_location = True
            return spec
    return None


def install(package: str, fd: int, base: int, entries: dict[str, Entry]) -> Finder:
    """Puts the finder first, and returns it."""
    # This very code comes from the cache, too.
    finder = Finder(package, fd, base, entries, is_stale=not _is_true(entries["casemate.lean_cache"]))
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    return finder


def path_of(package: str) -> str:
    """The cache of the package in directory `package`, for this Python."""
    return f"{package}/__pycache__/lean.{sys.implementation.cache_tag}.bin"


def build(package: str) -> None:
    """Makes the cache; does nothing where it may not write."""
    import os

    entries: dict[str, Entry] = {}
    imported: dict[str, list[str]] = {}
    body = bytearray()
    for base, directories, files in os.walk(package):
        directories[:] = [name for name in directories if name != "__pycache__"]
        for file in files:
            path = os.path.join(base, file)
            name, is_package = _name_of(path[len(package) + 1 :])
            if file.endswith(".py") and not name.startswith(_LEFT_OUT):
                status, code, imported[name] = _compiled(path)
                entries[name] = (path, is_package, status.st_mtime_ns, status.st_size, len(body), len(code), ())
                body += code
    for name, entry in entries.items():
        entries[name] = (*entry[:6], tuple(other for other in imported[name] if other in entries))
    own = entries["casemate.lean_cache"]
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


def _compiled(path: str) -> tuple[stat_result, bytes, list[str]]:
    """The code, and what the module imports when it is loaded.

    Without `from __future__ import annotations`, which is a flag of the compiler here: as a statement it imports a file (0.3 ms).
    """
    import __future__

    import ast

    status = stat(path)
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    for node in ast.walk(tree):
        _remove_annotations(node)
    flags = __future__.annotations.compiler_flag
    code = dumps(compile(tree, path, "exec", flags=flags, dont_inherit=True, optimize=2))
    return status, code, _imported(tree)


def _remove_annotations(node: ast.AST) -> None:
    """Of functions: nothing looks at them when a verb runs, and each is a string and an instruction to load it: 0.2 of 1.9 ms of unmarshalling for `do`."""
    import ast

    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node.returns = None
    elif isinstance(node, ast.arg):
        node.annotation = None


def _imported(tree: ast.Module) -> list[str]:
    """Names that the module's own level imports, packages before their modules. What is only for type checkers stands in an `if`, so it is not found."""
    import ast

    found: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # Each may be a module of that package, or something in that module.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            found += [".".join(parts[: count + 1]) for count in range(len(parts))]
    return list(dict.fromkeys(found))

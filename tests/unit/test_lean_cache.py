"""The cache of the verbs' modules: used when it is true, never when a source changed, never needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import casemate
from bundle import CASEMATE
from casemate import lean_cache

PROBE = """
import sys, marshal, os
directory, path = sys.argv[1:]
sys.path.insert(0, directory)
fd = os.open(path, os.O_RDONLY)
assert os.read(fd, 4) == b"LEAN"
length = int.from_bytes(os.read(fd, 8), "little")
code, entries = marshal.loads(os.read(fd, length))
names = {"__name__": "casemate.lean_cache"}
exec(code, names)
finder = names["install"](directory + "/casemate", fd, 12 + length, entries)
from casemate.cli import main
from casemate import errors
print(finder.is_stale, type(main.__spec__.loader).__name__, type(errors.__spec__.loader).__name__, errors.__file__)
"""


# As importlib makes modules: found in their package, and with its attributes.
EACH_VERB = (
    PROBE.replace("print(", "pass; (")
    + """
for verb in main.VERBS:
    __import__("casemate.cli.commands." + verb)
for name, module in list(sys.modules.items()):
    parent, _, own = name.rpartition(".")
    if parent.startswith("casemate"):
        package = name if module.__file__.endswith("__init__.py") else parent
        assert getattr(sys.modules[parent], own) is module is sys.modules[module.__spec__.name], name
        assert (module.__package__, module.__spec__.parent, module.__spec__.origin) == (package, package, module.__file__), name
        assert hasattr(module, "__path__") == (package == name), name
        assert type(module.__loader__).__name__ == "Finder" or name.startswith("casemate.report"), name
print(finder.is_stale, "casemate.runtime.create" in sys.modules)
"""
)


def copy_of_package(tmp_path: Path) -> Path:
    package = tmp_path / "casemate"
    source = Path(casemate.__file__).resolve().parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "_bin"))
    return package


def probe(package: Path, code: str = PROBE) -> list[str]:
    """What a fresh interpreter says: whether the cache is stale, by which loaders `cli.main` and `errors` came, and `errors.__file__`."""
    command = [sys.executable, "-I", "-S", "-c", code, str(package.parent), lean_cache.path_of(str(package))]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_a_true_cache_is_used(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    assert probe(package) == ["False", "Finder", "Finder", str(package / "errors.py")]


def test_modules_are_as_importlib_makes_them(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    assert probe(package, EACH_VERB) == ["False", "True"]


def test_a_changed_source_is_read_itself(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    changed = package / "errors.py"
    changed.write_text(changed.read_text() + "\n# later\n")
    assert probe(package)[:3] == ["True", "Finder", "SourceFileLoader"]


def test_no_cache_where_it_cannot_be_written(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    (package / "__pycache__").write_text("a file in the directory's place")
    lean_cache.build(str(package))
    assert os.listdir(tmp_path) == ["casemate"]


@pytest.mark.parametrize("content", [b"", b"LEAN", b"LEAN" + b"\xff" * 40, b"\0" * 100, b"LEAN\x05\0\0\0\0\0\0\0hello"])
def test_a_broken_cache_is_replaced(content: bytes) -> None:
    cache = Path(lean_cache.path_of(os.path.realpath(os.path.dirname(casemate.__file__))))
    if not os.access(cache.parent, os.W_OK):
        pytest.skip("the package's directory is read-only")
    cache.write_bytes(content)
    done = subprocess.run([CASEMATE, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert cache.read_bytes() != content


LIBRARIES = """
import _json, _socket, fcntl
for module in _json, _socket, fcntl:
    print(module.__name__, getattr(module, "__file__", ""), type(module.__loader__).__name__ if hasattr(module, "__file__") else "")
"""


def test_libraries_of_the_interpreter_are_its_own(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    ordinary = subprocess.run([sys.executable, "-I", "-S", "-c", LIBRARIES], capture_output=True, text=True, check=True)
    assert probe(package, PROBE.replace("print(", "pass; (") + LIBRARIES) == ordinary.stdout.split()

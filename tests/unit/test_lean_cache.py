"""The cache of the verbs' modules: used when it is true, never when a source changed, never needed."""

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import casemate
from casemate import lean_cache

PROBE = """
import sys, marshal
directory = sys.argv[1]
sys.path.insert(0, directory)
code, entries = marshal.loads(open(sys.argv[2], "rb").read())
names = {"__name__": "casemate.lean_cache"}
exec(marshal.loads(code), names)
used = names["install"](entries)
from casemate.cli import main
from casemate import errors
print(used, type(main.__spec__.loader).__name__, errors.__file__)
"""


def copy_of_package(tmp_path: Path) -> Path:
    package = tmp_path / "casemate"
    source = Path(casemate.__file__).resolve().parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "_bin"))
    return package


def probe(package: Path) -> list[str]:
    """What a fresh interpreter says: whether the cache was used, by which loader `cli.main` came, and `errors.__file__`."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(package.parent), lean_cache.path_of(str(package))]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_a_true_cache_is_used(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    assert probe(package) == ["True", "Finder", str(package / "errors.py")]


def test_a_changed_source_makes_the_cache_stale(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    changed = package / "errors.py"
    changed.write_text(changed.read_text() + "\n# later\n")
    assert probe(package)[:2] == ["False", "SourceFileLoader"]


def test_a_missing_source_makes_the_cache_stale(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    (package / "host" / "tty.py").unlink()
    assert probe(package)[0] == "False"


def test_no_cache_where_it_cannot_be_written(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    (package / "__pycache__").write_text("a file in the directory's place")
    lean_cache.build(str(package))
    assert os.listdir(tmp_path) == ["casemate"]


def test_the_cache_holds_code_only(tmp_path: Path) -> None:
    package = copy_of_package(tmp_path)
    lean_cache.build(str(package))
    with open(lean_cache.path_of(str(package)), "rb") as file:
        _, entries = marshal.loads(file.read())
    assert "casemate.cli.main" in entries
    assert "casemate.lean_cache" not in entries

"""Python modules depend downwards only, as ARCHITECTURE.md draws them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "casemate"
# Folder of the package: its height. Those of one height may use each other.
HEIGHT = {"cli": 4, "report": 4, "sdk": 4, "runtime": 3, "isolation": 2, "oci": 2, "policy": 2, "host": 1}
LOWEST = ("casemate.errors", "casemate.wire", "casemate.jsonlite")


def imported(path: Path) -> Iterator[str]:
    """The modules of casemate that a file imports, also inside of functions and for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ([f"{node.module}.{alias.name}" for alias in node.names] if node.module == "casemate" else [node.module])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", HEIGHT)
def test_nothing_depends_on_what_stands_above(folder: str) -> None:
    upwards = [
        f"{path.relative_to(SOURCE)}: {module}"
        for path in sorted((SOURCE / folder).rglob("*.py"))
        for module in imported(path)
        if module.startswith("casemate.") and HEIGHT.get(module.split(".")[1], 0) > HEIGHT[folder]
    ]
    assert upwards == []


@pytest.mark.parametrize("name", LOWEST)
def test_the_lowest_modules_use_none_but_each_other(name: str) -> None:
    path = SOURCE / f"{name.removeprefix('casemate.')}.py"
    assert [module for module in imported(path) if module.startswith("casemate") and module not in LOWEST] == []

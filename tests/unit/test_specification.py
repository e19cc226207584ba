"""Each promise of SPECIFICATION.md names what proves it: a test function or a case of the bench. Both must exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
_PROOF = re.compile(r"`([^`]+)`")
ROWS = _ROW.findall((ROOT / "SPECIFICATION.md").read_text())


def functions(path: Path) -> set[str]:
    """The names of a file's functions. Rust's are found by their text."""
    if path.suffix == ".rs":
        return set(re.findall(r"^\s*fn (\w+)\(", path.read_text(), re.MULTILINE))
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def proof_exists(proof: str) -> bool:
    """`tests/…/test_x.py::test_y`, `crates/…/x.rs::y` or `bench/CASE`."""
    place, separator, name = proof.partition("::")
    if not separator:
        return proof.startswith("bench/") and (ROOT / proof / "case.py").is_file()
    return (ROOT / place).is_file() and name in functions(ROOT / place)


def test_promises_are_numbered_one_by_one() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, len(ROWS) + 1))


@pytest.mark.parametrize("proofs", [pytest.param(proofs, id=number) for number, _, proofs in ROWS])
def test_promise_has_proofs_that_exist(proofs: str) -> None:
    named = _PROOF.findall(proofs)

    assert named, "a promise without a proof"
    assert [proof for proof in named if not proof_exists(proof)] == []


def test_a_proof_that_is_missing_is_noticed() -> None:
    assert not proof_exists("tests/unit/test_specification.py::test_of_no_such_name")
    assert not proof_exists("bench/no_such_case")

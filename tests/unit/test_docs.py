"""The documents agree with the tree: links lead somewhere, Python blocks compile, the reference has the options that the command has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import casemate
from casemate.cli.main import VERBS, main

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
REFERENCE = GUIDE / "reference.md"
_ELSEWHERE = {"target", "build", "dist", "node_modules"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def documents() -> list[Path]:
    """All documents of the tree, none of a build's or an environment's."""
    found = []
    for path in ROOT.rglob("*.md"):
        parts = path.relative_to(ROOT).parts
        if not any(part in _ELSEWHERE or part.startswith(".") for part in parts):
            found.append(path)
    return sorted(found)


def links() -> Iterator[tuple[Path, str]]:
    for path in documents():
        for target in _LINK.findall(_FENCE.sub("", path.read_text())):
            if not re.match(r"[a-z]+:", target):
                yield path, target


def anchors(path: Path) -> set[str]:
    """The names that a heading's link has: lower case, spaces as dashes, other signs left out."""
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def python_blocks() -> Iterator[tuple[str, str]]:
    for path in [ROOT / "README.md", *sorted(GUIDE.glob("*.md"))]:
        for number, (language, code) in enumerate(_FENCE.findall(path.read_text())):
            if language == "python":
                yield f"{path.name}-{number}", code


def sections() -> dict[str, str]:
    """The reference's text below each heading."""
    parts = re.split(r"^##+ +(.*)$", REFERENCE.read_text(), flags=re.MULTILINE)
    return {heading.strip("` "): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def documented(heading: str) -> set[str]:
    """The options in the first cells of the tables of a section."""
    cells = re.findall(r"^\| (`-[^|]*)\|", sections()[heading], re.MULTILINE)
    return {option for cell in cells for option in _OPTION.findall(re.sub(r"[A-Z]{2,}\S*", "", cell))}


def accepted(help_text: str) -> set[str]:
    """The options that a help text lists, but for --help, which all have."""
    rows = re.findall(r"^  (-.*?)(?:  |$)", help_text, re.MULTILINE)
    return {option for row in rows for option in _OPTION.findall(row)} - {"-h", "--help"}


@pytest.mark.parametrize(("path", "target"), [pytest.param(path, target, id=f"{path.relative_to(ROOT)}:{target}") for path, target in links()])
def test_link_leads_somewhere(path: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    linked = path.parent / name if name else path

    assert linked.exists(), f"{path.relative_to(ROOT)} links to {target}"
    assert not anchor or anchor in anchors(linked), f"{linked.name} has no heading #{anchor}"


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in python_blocks()])
def test_python_block_compiles(code: str) -> None:
    compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_reference_has_the_options_of_each_command(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0

    assert documented(f"casemate {verb}") == accepted(capsys.readouterr().out)


def test_reference_has_the_global_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    assert documented("Global options") == accepted(capsys.readouterr().out)


def test_reference_names_no_command_that_is_none() -> None:
    commands = {heading.removeprefix("casemate ") for heading in sections() if heading.startswith("casemate ")}

    assert commands == set(VERBS)


@pytest.mark.parametrize("name", casemate.__all__)
def test_public_name_is_documented(name: str) -> None:
    assert re.search(rf"`{re.escape(name)}\b", (GUIDE / "python.md").read_text())

"""Names of the engine's functions, for addresses that a sandbox's kernel tells."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from casemate.report import symbols


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(symbols, "engine_path", lambda: str(tmp_path / "engine"))
    return tmp_path / "engine.symbols"


def own_head() -> str:
    """Bytes that this process's executable has where a build id would be."""
    return Path("/proc/self/exe").read_bytes()[:20].hex()


def write(path: Path, build_id: str) -> None:
    path.write_bytes(gzip.compress(f"{build_id}\n0000000000001000 first\n0000000000002000 <a as b>::second\n".encode()))


def test_an_address_is_in_the_function_that_begins_before_it(table: Path) -> None:
    write(table, own_head())
    found = symbols.Symbols(os.getpid())
    names = [found.name(address) for address in (0x1000, 0x1FFF, 0x2010, 0xFFF)]
    assert names == ["first+0x0", "first+0xfff", "<a as b>::second+0x10", "0xfff"]


def test_of_another_engine_addresses_are_told_as_they_are(table: Path) -> None:
    write(table, "ab" * 20)
    assert symbols.Symbols(os.getpid()).name(0x1000) == "0x1000"


@pytest.mark.parametrize("content", [None, b"", b"no gzip", gzip.compress(b"not hexadecimal\n1 a\n"), gzip.compress(b"00\n")[:-4]])
def test_a_table_that_is_missing_or_broken_is_no_error(table: Path, content: bytes | None) -> None:
    if content is not None:
        table.write_bytes(content)
    assert symbols.Symbols(os.getpid()).name(0x1000) == "0x1000"

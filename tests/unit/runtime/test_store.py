"""State on disk: ids, atomic replacement, who wins a create."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import ContainerError, ContainerExists, ContainerNotFound, UsageError
from casemate.runtime import store


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a b", "é", "x" * 1025])
def test_an_id_that_could_name_another_place_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid container id"):
        store.check_id(name)


def test_of_a_hundred_reservations_one_wins(tmp_path: Path) -> None:
    def reserve(_: int) -> bool:
        try:
            store.reserve(str(tmp_path), "same").close()
        except ContainerExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(reserve, range(100))) == 1


def test_record_survives_the_disk(tmp_path: Path) -> None:
    entry = store.reserve(str(tmp_path), "one")
    record = store.Record("one")
    record.pid = 42
    record.annotations = {"a": "b"}
    entry.save(record)
    loaded = entry.load()
    assert loaded is not None
    assert (loaded.pid, loaded.annotations) == (42, {"a": "b"})
    entry.close()


@given(st.binary(max_size=200))
def test_a_damaged_state_file_is_told_apart_from_none(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        entry = store.reserve(root, "one")
        entry.write(store.STATE_FILE, data)
        try:
            loaded = entry.load()
        except ContainerError as error:
            entry.close()
            assert "damaged" in str(error)  # noqa: PT017 - some of the data is a record
            return
        entry.close()
        assert loaded is not None
        assert loaded.id == "one"


def test_removed_entry_is_not_found(tmp_path: Path) -> None:
    entry = store.reserve(str(tmp_path), "one")
    entry.write("state.json", b"{}")
    entry.remove()
    entry.close()
    with pytest.raises(ContainerNotFound):
        store.open_entry(str(tmp_path), "one")


def test_an_entry_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ContainerNotFound):
        store.open_entry(str(tmp_path), "link")

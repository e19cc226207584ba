"""The lean JSON against the standard library's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate import jsonlite

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(JSON, st.sampled_from([0, 2]))
def test_round_trip_through_both_libraries(value: object, indent: int) -> None:
    text = jsonlite.dumps(value, indent=indent)
    assert json.loads(text) == value
    assert jsonlite.loads(json.dumps(value)) == value


@given(st.text())
def test_arbitrary_text_raises_only_json_error(text: str) -> None:
    try:
        jsonlite.loads(text)
    except jsonlite.JsonError:
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no value at line 1 column 1"),
        ("{", "property name"),
        ("[1,\n ,]", "line 2"),
        ('{"a":1,"a":2}', "'a' stands twice"),
        ("[NaN]", "NaN is not JSON"),
        ("1 2", "more text"),
        ("[" * 100_000, "nested too deep"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_is_wrong_is_said(text: str | bytes, message: str) -> None:
    with pytest.raises(jsonlite.JsonError, match=message):
        jsonlite.loads(text)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        jsonlite.dumps({"a": object()})

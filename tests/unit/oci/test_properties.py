"""Properties of the border and the lowering: whatever stands in config.json gives a plan or casemate's own error, which says where and what.

CASEMATE_HYPOTHESIS=slow    a hundred times the examples, by hand
"""

from __future__ import annotations

import copy
import json
import os
import re
from typing import Any

import plan_vectors
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from casemate import jsonlite, wire
from casemate.errors import HostError, SpecError
from casemate.oci import template
from casemate.oci.checks import known
from casemate.oci.lower import lower_create, lower_exec
from casemate.oci.schema import CONFIG
from casemate.oci.spec import check_process, check_resources, check_spec, spec_warnings

FILE = f"{plan_vectors.BUNDLE}/config.json"
EXAMPLES = 20_000 if os.environ.get("CASEMATE_HYPOTHESIS") == "slow" else 500
PROFILE = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

_NUMBERS = st.sampled_from([-(1 << 64), -(1 << 63) - 1, -1, 0, 1, 4095, 4096, 65536, (1 << 32) - 1, 1 << 32, (1 << 63), (1 << 64) - 1, 1 << 64])
_WORDS = st.sampled_from(
    ["", "/", "..", "../x", "a\nb", "\0", "\ud800", "ﬁ", "٣", "bind", "rbind", "idmap", "ridmap", "ro", "remount", "rshared", "cgroup", "user", "time", "mount",
     "0-3", "5-3", "9" * 5000, "1.0.0", "9" * 5000 + ".0.0", "A=b", "=", "rwm", "SCMP_ACT_ERRNO", "SCMP_CMP_EQ", "CAP_KILL", "RLIMIT_NOFILE", "none", "/dev",
     "net.ipv4.x", "net..x", "kernel.hostname"]
)  # fmt: skip
_LEAVES = st.none() | st.booleans() | st.integers() | _NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | _WORDS | st.text(max_size=8)
_KEYS = st.sampled_from(["type", "path", "options", "op", "linux", "a\nb", "\ud800", "x" * 300, ""]) | st.text(max_size=5)
JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=8)
BASES = [plan_vectors.read(name) for name in plan_vectors.NAMES if name not in ("hardened_do", "mount_options")]


def _nodes(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [place]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        found += _nodes(item, (*place, key))
    return found


def _at(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A vector whose config has one to three nodes replaced, deleted, put elsewhere or doubled."""
    vector = copy.deepcopy(draw(st.sampled_from(BASES)))
    config = vector["config"]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(_nodes(config)))
        if not place:
            continue
        parent = _at(config, place[:-1])
        what = draw(st.sampled_from(["replace", "replace", "delete", "double", "move", "add"]))
        if what == "replace":
            parent[place[-1]] = draw(JSON)
        elif what == "delete":
            del parent[place[-1]]
        elif what == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[place[-1]]))
        elif what == "move":
            parent[place[-1]] = copy.deepcopy(_at(config, draw(st.sampled_from(_nodes(config)))))
        elif isinstance(parent, dict):
            parent[draw(_KEYS)] = draw(JSON)
    return vector


def assert_says_where_and_what(error: SpecError, document: object, file: str = FILE) -> None:
    """File, path, value and what is allowed; on one line that any terminal and log can take."""
    assert error.file == file
    assert error.expected
    assert str(error).startswith(f"{file}: ")
    assert str(error).isprintable()
    assert error.json_path or not isinstance(document, dict)
    steps = [int(step) if step.isdecimal() else step for step in re.findall(r"[^.\[\]]+", error.json_path)]
    place = document
    for step in steps[:-1] if error.value is None or error.json_path.endswith(" key") else steps:
        if isinstance(place, dict) and step not in place:
            return  # a name with a dot or an escape in it
        place = place[step]  # type: ignore[index]


@PROFILE
@given(JSON)
def test_arbitrary_json_is_a_specification_or_an_error_of_ours(value: object) -> None:
    for check in (check_spec, check_process, check_resources):
        try:
            assert check(value, FILE) is value
        except SpecError as error:
            assert_says_where_and_what(error, value)


@PROFILE
@given(mutated())
def test_mutated_configuration_is_a_plan_or_an_error_of_ours(vector: dict[str, Any]) -> None:
    config = vector["config"]
    context = plan_vectors.make_context(vector)
    context.open_namespace = lambda path: 50
    context.host.has_apparmor = context.host.has_selinux = True
    try:
        spec = check_spec(config, FILE)
        plans = [lower_create(spec, context)]
        if isinstance(spec.get("process"), dict):
            plans.append(lower_exec(spec, spec["process"], context))
    except SpecError as error:
        assert_says_where_and_what(error, config)
    except HostError:
        pass
    else:
        assert all(wire.unpack(wire.pack(plan)) == plan for plan in plans)
        assert all(warning.isprintable() for warning in spec_warnings)


@PROFILE
@given(mutated())
def test_what_the_schema_knows_is_lowered_to_the_same_plan(vector: dict[str, Any]) -> None:
    """Unknown properties and nulls change nothing."""
    try:
        spec = check_spec(vector["config"], FILE)
        plan = lower_create(spec, plan_vectors.make_context(vector))
    except (SpecError, HostError, LookupError):
        assume(False)
    stripped: Any = known(spec, CONFIG)
    assert lower_create(check_spec(stripped, FILE), plan_vectors.make_context(vector)) == plan


@PROFILE
@given(mutated(), st.sampled_from([0, 2]))
def test_specification_survives_being_written_and_read(vector: dict[str, Any], indent: int) -> None:
    assert jsonlite.loads(jsonlite.dumps(vector["config"], indent=indent)) == vector["config"]


@pytest.mark.parametrize("rootless", [False, True])
def test_template_is_a_specification_without_a_warning(rootless: bool) -> None:
    spec = template.template(rootless)
    assert check_spec(jsonlite.loads(jsonlite.dumps(spec)), FILE) == spec
    assert spec_warnings == []


# What the border refused too late or with a traceback, or what an engine would have refused without naming the field.
REFUSED = [
    ({"ociVersion": "9" * 5000 + ".0.0"}, "ociVersion", "a version 1.x"),
    ({"ociVersion": "١.0.0"}, "ociVersion", "a version such as"),
    ({"linux": {"devices": [{"type": "c", "path": "/dev/x", "major": -1}]}}, "linux.devices[0].major", "from 0 to 4095"),
    ({"linux": {"devices": [{"type": "c", "path": "/dev/x", "minor": 1 << 20}]}}, "linux.devices[0].minor", "from 0 to 1048575"),
    ({"linux": {"resources": {"rdma": {"a\nb": 1}}}}, "linux.resources.rdma.'a\\nb'", "an object"),
]


@pytest.mark.parametrize(("change", "path", "expected"), REFUSED)
def test_wrong_value_is_refused_with_its_path(change: dict[str, Any], path: str, expected: str) -> None:
    config = {"ociVersion": "1.2.1", "root": {"path": "rootfs"}} | change
    with pytest.raises(SpecError, match=expected) as caught:
        check_spec(config, FILE)
    assert caught.value.json_path == path
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "5-3", "1-", "-1", "8192", "9" * 5000, "0-8191," * 9000 + "1", "٣", "1,,2", "a"])
def test_list_of_processors_is_refused_with_its_path(text: str) -> None:
    config = plan_vectors.read("process_attributes")["config"]
    config["linux"]["memoryPolicy"]["nodes"] = text or ","
    context = plan_vectors.make_context({})
    with pytest.raises(SpecError, match="a list such as 0-2,7") as caught:
        lower_create(check_spec(config, FILE), context)
    assert caught.value.json_path == "linux.memoryPolicy.nodes"


@pytest.mark.parametrize("name", ["windows", "unknown", "dev.casemate.unknown"])
def test_what_is_too_deep_to_be_written_again_is_refused(name: str) -> None:
    text = f'{{"ociVersion": "1.2.1", "root": {{"path": "rootfs"}}, "{name}": {"[" * 900}{"]" * 900}}}'
    with pytest.raises(SpecError, match="at most 64 levels of nesting") as caught:
        check_spec(jsonlite.loads(text), FILE)
    assert caught.value.json_path == name


def test_number_that_would_be_written_as_inf_is_refused() -> None:
    with pytest.raises(jsonlite.JsonError, match="-1e999 is too large"):
        jsonlite.loads('{"windows": -1e999}')


def test_unknown_name_that_no_terminal_can_show_is_escaped() -> None:
    check_spec({"ociVersion": "1.2.1", "root": {"path": "rootfs"}, "\ud800\x1b[2J": 1}, FILE)
    assert spec_warnings == [r"config.json: '\ud800\x1b[2J': unknown field, ignored"]


def test_first_missing_field_is_the_first_in_the_specification() -> None:
    with pytest.raises(SpecError) as caught:
        check_process({}, "process.json")
    assert caught.value.json_path == "cwd"


# Text near JSON: valid documents with characters put in, taken out or cut off.
_INSERTS = st.sampled_from(
    [*list('{}[]",:\\/-+.eE0192tfn \t\n\r\x0c\ufeff\x00\x1f'), "NaN", "Infinity", "-Infinity", "1e999", "-0", "01", '"a":1,"a":2', "\\u12", "'"]
)


@st.composite
def near_json(draw: st.DrawFn) -> str:
    text = json.dumps(draw(JSON), ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_INSERTS | st.just("")) + text[at + draw(st.integers(0, 2)) :]
    return text


class _Stricter(Exception):
    """json takes what jsonlite's description says it refuses."""


def _standard(text: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise _Stricter
        return dict(pairs)

    def constant(name: str) -> object:
        raise _Stricter(name)

    def finite(digits: str) -> float:
        if float(digits) in (float("inf"), float("-inf")):
            raise _Stricter
        return float(digits)

    return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=finite)


@PROFILE
@given(near_json())
def test_jsonlite_takes_and_refuses_what_json_does(text: str) -> None:
    try:
        expected = _standard(text)
    except (ValueError, _Stricter):
        with pytest.raises(jsonlite.JsonError):
            jsonlite.loads(text)
    else:
        found = jsonlite.loads(text)
        assert found == expected
        assert jsonlite.dumps(found) == jsonlite.dumps(expected)

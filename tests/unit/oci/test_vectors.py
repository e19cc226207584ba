"""The plan vectors: lowering gives exactly what they say. The engine's side of them: crates/plan/tests/vectors.rs."""

from __future__ import annotations

import json
from pathlib import Path

import plan_vectors
import pytest

from casemate import wire
from casemate.oci.fields.mount_options import ALL
from casemate.policy import hardened
from casemate.policy.ids import Lent

FIELDS = Path(hardened.__file__).parents[1] / "oci" / "fields"
OPERATIONS = Path(__file__).parents[3] / "docs" / "design" / "plan.md"


@pytest.mark.parametrize("name", plan_vectors.NAMES)
def test_lowering_gives_the_vectors_plan(name: str) -> None:
    vector = plan_vectors.read(name)
    assert plan_vectors.lower(vector) == vector["plan"]


@pytest.mark.parametrize("name", plan_vectors.NAMES)
def test_vectors_plan_survives_the_wire(name: str) -> None:
    plan = plan_vectors.read(name)["plan"]
    assert wire.unpack(wire.pack(plan)) == plan


@pytest.mark.parametrize("name", plan_vectors.NAMES)
def test_vectors_text_is_as_the_writer_has_it(name: str) -> None:
    assert (plan_vectors.DIRECTORY / f"{name}.json").read_text() == plan_vectors.render(plan_vectors.read(name))


def test_each_section_of_the_lowering_has_a_vector() -> None:
    sections = {path.stem for path in FIELDS.glob("*.py") if not path.stem.startswith("__")}
    assert {section for section in sections if not any(name.startswith(section) for name in plan_vectors.NAMES)} == set()


def test_each_operation_that_the_lowering_can_give_is_in_a_vector() -> None:
    rows = [line.split("|")[1] for line in OPERATIONS.read_text().splitlines() if line.startswith("| `")]
    documented = {word.strip(" `") for row in rows for word in row.split(",")}
    seen = {str(op["op"]) for name in plan_vectors.NAMES for op in plan_vectors.read(name)["plan"]["ops"]}
    # Not a field's: for a supervisor's own processes, and what the isolations with a kernel of their own put in the place of `exec`.
    assert documented - seen == {
        "dumpable", "machine", "machine_exec", "machine_join", "machine_network", "nest", "network_release",
        "sentry", "sentry_exec", "sentry_join", "taps", "zygote",
    }  # fmt: skip
    assert seen - documented == set()


def test_each_mount_option_is_in_a_vector() -> None:
    mounts = [mount for name in plan_vectors.NAMES for mount in plan_vectors.read(name)["config"].get("mounts", [])]
    given = {option for mount in mounts for option in mount.get("options") or []}
    assert set(ALL) - given == {"copy-symlink"}  # refused


def test_hardened_vector_is_what_a_sandbox_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardened.os, "environ", {"TERM": "xterm"})
    options = hardened.Options(["true"])
    options.rootfs = "/nonexistent/image"
    options.lent = Lent([[0, 0x7000_0000, 65536]], [[0, 0x7000_0000, 65536]])
    options.memory = 1 << 30
    options.cpus = 1.5
    options.binds = [("/nonexistent/project", "/work", False), ("/nonexistent/data", "/data", True)]
    spec = hardened.hardened_spec(options) | {"root": {"path": "rootfs"}}
    assert plan_vectors.read("hardened_do")["config"] == json.loads(json.dumps(spec))

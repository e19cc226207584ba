"""The vectors in tests/vectors/plan: a specification, what the lowering is told besides, and the plan it gives. crates/plan/tests/vectors.rs reads them too.

    about     one line: what this vector is for
    config    config.json, in full
    process   only for exec: the process object of the further program
    host      attributes of HostFacts that differ from a privileged root's
    context   attributes of LowerContext; `namespaces` is {path: descriptor} for what it opens
    plan      the expected plan

Run as a program it writes each `plan` anew, for a change of the lowering to be seen in the diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from casemate.host.facts import HostFacts
from casemate.oci.context import LowerContext
from casemate.oci.lower import lower_create, lower_exec
from casemate.oci.spec import check_process, check_spec

DIRECTORY = Path(__file__).parents[2] / "vectors" / "plan"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.json"))
BUNDLE = "/nonexistent/bundle"


def read(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text())
    return vector


def make_context(vector: dict[str, Any]) -> LowerContext:
    """A context that touches nothing of this host."""
    host = HostFacts()
    for key, value in vector.get("host", {}).items():
        setattr(host, key, value)
    context = LowerContext(container_id="vector", bundle=BUNDLE, rootfs=f"{BUNDLE}/rootfs", host=host)
    context.state_json = lambda status: json.dumps({"id": "vector", "status": status})
    for key, value in vector.get("context", {}).items():
        if key == "namespaces":
            context.open_namespace = value.__getitem__
        else:
            setattr(context, key, tuple(value) if key == "terminal_size" else value)
    return context


def lower(vector: dict[str, Any]) -> dict[str, object]:
    """The plan that the lowering gives."""
    context = make_context(vector)
    spec = check_spec(vector["config"], context.config_file)
    if "process" in vector:
        return lower_exec(spec, check_process(vector["process"], "process.json"), context)
    return lower_create(spec, context)


def render(vector: dict[str, Any]) -> str:
    """The vector's text: an operation is a line."""
    plan = vector["plan"]
    lines = [f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in plan.items() if key != "ops"]
    operations = ",\n".join(f"      {json.dumps(op)}" for op in plan["ops"])
    head = json.dumps({key: value for key, value in vector.items() if key != "plan"}, indent=2)[:-2]
    return head + ',\n  "plan": {\n' + "\n".join(lines) + f'\n    "ops": [\n{operations}\n    ]\n  }}\n}}\n'


if __name__ == "__main__":
    for name in NAMES:
        vector = read(name)
        vector["plan"] = lower(vector)
        (DIRECTORY / f"{name}.json").write_text(render(vector))

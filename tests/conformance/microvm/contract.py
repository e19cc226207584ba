"""Requests made from the schema, valid and not, to a monitor's socket: `contract.py SOCKET SCHEMA PID COUNT`.

Prints one JSON line per operation: its name, and why it failed or nothing. Runs in an environment with schemathesis, of which nothing
else here knows. Each answer has to come within seconds, be in the schema, and leave the monitor alive.
"""

from __future__ import annotations

import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import hypothesis
import requests_unixsocket
import schemathesis
import yaml
from schemathesis.core import NotSet

TIMEOUT_S = 20


def main() -> None:
    path, schema_path, pid, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    client = Client("http+unix://" + urllib.parse.quote(path, safe=""), pid)
    schema = schemathesis.openapi.from_dict(yaml.safe_load(schema_path.read_text()))
    for result in schema.get_all_operations():
        operation = result.ok()
        why = judge(operation, client, count)
        print(json.dumps({"name": f"{operation.method.upper()} {operation.path}", "why": why}), flush=True)


def judge(operation: Any, client: Client, count: int) -> str:
    """Asks with bodies as the schema has them, then with others. Why that fails, or nothing."""
    settings = hypothesis.settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck))
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        try:
            settings(hypothesis.given(operation.as_strategy(generation_mode=mode))(lambda case: client.check(operation, case)))()
        except hypothesis.errors.Unsatisfiable:
            pass  # without a body there is nothing to get wrong
        except (AssertionError, OSError, ValueError) as error:
            return f"{mode.value}: {error}"
    return ""


class Client:
    def __init__(self, base: str, pid: int) -> None:
        self.base = base
        self.pid = pid
        self.session = requests_unixsocket.Session()

    def check(self, operation: Any, case: Any) -> None:
        name = urllib.parse.quote(str((case.path_parameters or {}).get("id", "a")), safe="")
        body = None if isinstance(case.body, NotSet) else case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
        response = self.session.request(case.method, self.base + operation.path.replace("{id}", name), timeout=TIMEOUT_S, data=body)
        known = operation.definition.raw["responses"]
        assert str(response.status_code) in known, f"{response.status_code}: {response.text[:200]}"
        if response.status_code >= 400:
            assert list(response.json()) == ["fault_message"]
        elif response.status_code == 200:
            response.json()
        assert Path(f"/proc/{self.pid}").exists(), "the monitor has ended"


if __name__ == "__main__":
    main()

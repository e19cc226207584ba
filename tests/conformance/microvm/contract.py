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

TIMEOUT_S = 20


def main() -> None:
    path, schema_path, pid, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    base = "http+unix://" + urllib.parse.quote(path, safe="")
    session = requests_unixsocket.Session()
    schema = schemathesis.openapi.from_dict(yaml.safe_load(schema_path.read_text()))
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for result in schema.get_all_operations():
        operation = result.ok()
        asked = 0
        statuses: dict[int, int] = {}

        def check(case: Any) -> None:
            nonlocal asked
            # What no client of a Unix socket can send: the library cannot either.
            body = {} if isinstance(case.body, type(schemathesis.NOT_SET)) else {"json": case.body}
            url = base + operation.path.replace("{id}", urllib.parse.quote(str((case.path_parameters or {}).get("id", "a")), safe=""))
            response = session.request(case.method, url, timeout=TIMEOUT_S, **body)
            asked += 1
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            assert response.status_code < 500, response.text
            assert str(response.status_code) in operation.definition.raw["responses"], f"{response.status_code}: {response.text[:200]}"
            if response.status_code >= 400:
                assert list(response.json()) == ["fault_message"]
            elif response.status_code == 200:
                response.json()
            assert Path(f"/proc/{pid}").exists(), "the monitor has ended"

        why = ""
        for mode in modes:
            settings = hypothesis.settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck))
            try:
                test = hypothesis.given(operation.as_strategy(generation_mode=mode))(check)
                settings(test)()
            except hypothesis.errors.Unsatisfiable:
                pass  # without a body there is nothing to get wrong
            except (AssertionError, OSError, ValueError) as error:
                why = f"{mode.value}: {error}"
        print(json.dumps({"name": f"{operation.method.upper()} {operation.path}", "why": why, "asked": asked, "statuses": statuses}), flush=True)


if __name__ == "__main__":
    main()

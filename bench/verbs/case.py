"""Each verb alone, on one container of `sleep` per round."""

from __future__ import annotations

import json
from functools import partial

from bench.measure import Failed, interleaved, timed, wait_stopped
from bench.peers import OCI, Container, Workshop
from bench.table import Aim, Row

VERBS = ("create", "start", "state", "list", "ps", "pause", "resume", "update", "exec", "kill", "delete", "spec", "features")
_AIM = Aim(15)


def _verb(workshop: Workshop, container: Container, verb: str) -> float:
    match verb:
        case "exec":
            return timed([*container.command("exec", "--process", str(container.directory / "process.json"))])
        case "kill":
            return timed([*container.command("kill"), "KILL"])
        case "update":
            return timed(container.command("update", "--pids-limit", "500"))
        case "list" | "features":
            return timed([*container.base, verb])
        case "spec":
            folder = container.directory / "spec"
            folder.mkdir()
            return timed([*container.base, "spec", "--bundle", str(folder)])
    return timed(container.command(verb))


def _round(workshop: Workshop, peer: str, lacking: dict[str, dict[str, str]]) -> dict[str, float]:
    container = workshop.container(peer, "sleep", "1000")
    process = json.loads((container.directory / "config.json").read_text())["process"]
    (container.directory / "process.json").write_text(json.dumps({**process, "args": ["true"]}))
    took: dict[str, float] = {}
    pid = 0
    for verb in VERBS:
        try:
            took[verb] = _verb(workshop, container, verb)
        except Failed as error:
            if verb in ("create", "start", "kill", "delete"):
                raise
            lacking.setdefault(verb, {})[peer] = str(error)
        if verb == "create":
            pid = container.pid
        elif verb == "kill":
            wait_stopped(pid)
    workshop.discard(container)
    return took


def measure(workshop: Workshop, count: int) -> list[Row]:
    lacking: dict[str, dict[str, str]] = {}
    samples, failures = interleaved(count, {peer: partial(_round, workshop, peer, lacking) for peer in workshop.installed(*OCI)})
    return [Row(verb, samples.get(verb, {}), _AIM, notes=failures | lacking.get(verb, {})) for verb in VERBS]

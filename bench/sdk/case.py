"""From a running Python: `casemate.run(["true"])`, beside the OCI runtimes started by the same Python with a bundle that is there already."""

from __future__ import annotations

import time
from functools import partial

from bench.measure import Failed, interleaved, timed
from bench.peers import OCI, Workshop
from bench.table import Aim, Row

import casemate

NAME = "casemate.run(['true'])"


def _run(workshop: Workshop, peer: str) -> dict[str, float]:
    if peer == "casemate":
        begin = time.perf_counter()
        result = casemate.run(["true"])
        took = (time.perf_counter() - begin) * 1e3
        if result.exit_code != 0:
            raise Failed([NAME], f"exit code {result.exit_code}")
        return {NAME: took}
    container = workshop.container(peer, "true")
    took = timed(container.command("run"))
    workshop.discard(container)
    return {NAME: took}


def measure(workshop: Workshop, count: int) -> list[Row]:
    peers = workshop.installed(*OCI)
    notes = {}
    if not hasattr(casemate, "run"):
        peers.remove("casemate")
        notes["casemate"] = "not yet"
    samples, failures = interleaved(count, {peer: partial(_run, workshop, peer) for peer in peers})
    return [Row(NAME, samples.get(NAME, {}), Aim(0.7, "crun"), against="crun", notes=notes | failures)]

"""`exec` of true, by command line, in a container that runs all the while."""

from __future__ import annotations

from functools import partial

from bench.measure import interleaved, timed
from bench.peers import OCI, Container, Workshop
from bench.table import Aim, Row

NAME = "exec true in a running one"


def _exec(workshop: Workshop, running: dict[str, Container], peer: str) -> dict[str, float]:
    if peer not in running:  # the uncounted round
        running[peer] = workshop.container(peer, "sleep", "1000")
        timed(running[peer].command("create"))
        timed(running[peer].command("start"))
    return {NAME: timed([*running[peer].command("exec"), "true"])}


def measure(workshop: Workshop, count: int) -> list[Row]:
    running: dict[str, Container] = {}
    samples, failures = interleaved(count, {peer: partial(_exec, workshop, running, peer) for peer in workshop.installed(*OCI)})
    for container in running.values():
        workshop.remove(container)
    return [Row(NAME, samples.get(NAME, {}), Aim(15), notes=failures)]

"""The life of a container that its user ends: create, start, `delete --force` while the program runs.

runc kills the program and looks 100 ms later whether it is gone.
"""

from __future__ import annotations

from functools import partial

from bench.measure import interleaved, timed
from bench.peers import OCI, Workshop
from bench.table import Aim, Row

NAME = "create + start + delete --force"


def _life(workshop: Workshop, peer: str) -> dict[str, float]:
    container = workshop.container(peer, "sleep", "1000")
    took = timed(container.command("create"))
    took += timed(container.command("start"))
    took += timed(container.command("delete", "--force"))
    workshop.discard(container)
    return {NAME: took}


def measure(workshop: Workshop, count: int) -> list[Row]:
    samples, failures = interleaved(count, {peer: partial(_life, workshop, peer) for peer in workshop.installed(*OCI)})
    return [Row(NAME, samples.get(NAME, {}), Aim(0.5, "runc"), notes=failures)]

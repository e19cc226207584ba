"""Fifty starts, eight at a time: what locks and waits in the kernel cost when a host is busy. The figure is the wall time of all fifty."""

from __future__ import annotations

from functools import partial

from bench.measure import interleaved, timed_together
from bench.peers import OCI, Workshop
from bench.table import Row

NAME = "50 x run true, 8 at once"
_STARTS = 50
_AT_ONCE = 8
_SHARE = 6  # a round is fifty starts: a sixth as many rounds


def _fifty(workshop: Workshop, peer: str) -> dict[str, float]:
    containers = [workshop.container(peer, "true") for _ in range(_STARTS)]
    took = timed_together([container.command("run") for container in containers], _AT_ONCE)
    for container in containers:
        workshop.discard(container)
    return {NAME: took}


def measure(workshop: Workshop, count: int) -> list[Row]:
    rounds = max(1, count // _SHARE)
    samples, failures = interleaved(rounds, {peer: partial(_fifty, workshop, peer) for peer in workshop.installed(*OCI)})
    return [Row(NAME, samples.get(NAME, {}), notes=failures)]

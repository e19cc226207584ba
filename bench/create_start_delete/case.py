"""The life of a short container as a manager leads it: create, start, delete. The wait for its program's end is not counted."""

from __future__ import annotations

from functools import partial

from bench.measure import interleaved, timed, wait_stopped
from bench.peers import OCI, Workshop
from bench.table import Aim, Row

NAME = "create + start + delete"


def _life(workshop: Workshop, peer: str) -> dict[str, float]:
    container = workshop.container(peer, "true")
    took = timed(container.command("create"))
    pid = container.pid
    took += timed(container.command("start"))
    wait_stopped(pid)
    took += timed(container.command("delete"))
    workshop.discard(container)
    return {NAME: took}


def measure(workshop: Workshop, count: int) -> list[Row]:
    samples, failures = interleaved(count, {peer: partial(_life, workshop, peer) for peer in workshop.installed(*OCI)})
    return [Row(NAME, samples.get(NAME, {}), Aim(0.5, "runc"), notes=failures)]

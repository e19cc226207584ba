"""`run` of /bin/true: a container from its start to its end. bwrap has the same root and namespaces, but no cgroup and no seccomp."""

from __future__ import annotations

from functools import partial

from bench.measure import interleaved, timed
from bench.peers import OCI, Workshop
from bench.table import Aim, Row

NAME = "run true"


def bwrap(workshop: Workshop) -> list[str]:
    """A jail over the root of the bundles."""
    jail = ["--unshare-all", "--die-with-parent", "--bind", str(workshop.rootfs), "/", "--proc", "/proc", "--dev", "/dev", "--cap-drop", "ALL"]
    return [workshop.peers["bwrap"].program, *jail, "true"]


def _run(workshop: Workshop, peer: str) -> dict[str, float]:
    if peer == "bwrap":
        return {NAME: timed(bwrap(workshop))}
    container = workshop.container(peer, "true")
    took = timed(container.command("run"))
    workshop.discard(container)
    return {NAME: took}


def measure(workshop: Workshop, count: int) -> list[Row]:
    samples, failures = interleaved(count, {peer: partial(_run, workshop, peer) for peer in workshop.installed(*OCI, "bwrap")})
    return [Row(NAME, samples.get(NAME, {}), Aim(0.7, "runc"), notes=failures)]

"""Processor time of one `run` of true, user and system, of every process it takes: read from a cgroup above runtime and container.

We are in it too: our own spawn and wait are in the figure, of all peers alike. Work that the kernel puts off to its own threads is not.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from bench.measure import interleaved, timed
from bench.peers import CGROUP, OCI, Workshop
from bench.run_true.case import bwrap
from bench.table import Row

NAME = "processor time of run true"
_V1 = Path("/sys/fs/cgroup/cpuacct")


class _Meter:
    """A cgroup with a place for us and, beside it, for the containers."""

    def __init__(self) -> None:
        self._tree = _V1 if _V1.exists() else Path("/sys/fs/cgroup")
        self.path = f"{CGROUP}/cpu-{os.getpid()}"
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        home = next(path for _, controllers, path in lines if "cpuacct" in controllers.split(",") or (self._tree != _V1 and not controllers))
        self._home = Path(f"{self._tree}{home}")
        self._ours = Path(f"{self._tree}{self.path}/self")
        self._ours.mkdir(parents=True)

    def enter(self) -> None:
        (self._ours / "cgroup.procs").write_text("0")

    def leave(self) -> None:
        (self._home / "cgroup.procs").write_text("0")

    def read_ms(self) -> float:
        top = self._ours.parent
        if self._tree == _V1:
            return int((top / "cpuacct.usage").read_text()) / 1e6
        return int((top / "cpu.stat").read_text().split()[1]) / 1e3


def _run(workshop: Workshop, meter: _Meter, peer: str) -> dict[str, float]:
    container = None if peer == "bwrap" else workshop.container(peer, "true", cgroup=meter.path)
    before = meter.read_ms()
    timed(container.command("run") if container else bwrap(workshop))
    spent = meter.read_ms() - before
    if container:
        workshop.discard(container)
    return {NAME: spent}


def measure(workshop: Workshop, count: int) -> list[Row]:
    meter = _Meter()
    meter.enter()
    try:
        samples, failures = interleaved(count, {peer: partial(_run, workshop, meter, peer) for peer in workshop.installed(*OCI, "bwrap")})
    finally:
        meter.leave()
    return [Row(NAME, samples.get(NAME, {}), notes=failures)]

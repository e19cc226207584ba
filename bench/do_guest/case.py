"""`casemate do --isolation=microvm -- true` with each hypervisor: from exec to exit, with a machine booted at each start, and restored. One that cannot run
here has its reason in place of figures.

All run the same small root with 64 MiB. Where KVM emulates guests' kernels, our monitor boots one that is built for that (minutes, once), for a minute
and more.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.measure import interleaved, timed
from bench.peers import Workshop
from bench.table import US, Row

_MOST = 10  # a boot takes seconds
_ENOUGH_S = 90
_DEADLINE_S = 900
_BUILD_S = 3600
# Name, hypervisor, whether a template may be used.
_WAYS = (
    ("uml", "uml", False),
    ("qemu, booted", "qemu", False),
    ("qemu, from the template", "qemu", True),
    ("our monitor, booted", "casemate", False),
    ("our monitor, from the template", "casemate", True),
)


def measure(workshop: Workshop, count: int) -> list[Row]:
    from casemate.hypervisor import kvm, registry

    if kvm.verdict().ok and not kvm.is_real():
        words = [workshop.peers[US].program, "kernel", "build", "poor-kvm", "--yes"]
        subprocess.run(words, stdout=sys.stderr, check=False, timeout=_BUILD_S)  # that it failed is what the probe says
    rows = []
    for way, hypervisor, template in _WAYS:
        name = f"do in a guest: {way}"
        verdict = registry.get(hypervisor).probe()
        if not verdict.ok:
            rows.append(Row(name, {}, notes={US: f"{hypervisor}: {verdict.reason}"}))
            continue
        environment = ["/usr/bin/env", f"CASEMATE_TEMPLATE={int(template)}"]
        options = ["--isolation=microvm", f"--hypervisor={hypervisor}", "--memory=64M", f"--rootfs={workshop.rootfs}"]
        argv = [*environment, workshop.peers[US].program, "do", *options, "--", "/bin/true"]
        actions = {US: lambda argv=argv, name=name: {name: timed(argv)}}
        before = _failure()
        samples, failures = interleaved(min(count, _MOST), actions, deadline_s=_DEADLINE_S, enough_s=_ENOUGH_S)
        after = _failure()
        if after != before and after:
            # Each start booted, and was told of nothing: no figure of a template.
            rows.append(Row(name, {}, notes={US: f"{hypervisor}: {after[1]}"}))
            continue
        rows.append(Row(name, samples.get(name, {}), notes=failures))
    return rows


def _failure() -> tuple[int, str] | None:
    """When the last attempt to make a template failed, and why; None if it did not."""
    from casemate.guest import store

    try:
        file = Path(store.directory(), "templates/.failed")
        return file.stat().st_mtime_ns, file.read_text()
    except FileNotFoundError:
        return None

"""`casemate do --isolation=microvm -- true` with each hypervisor: from exec to exit, with a machine booted at each start, and restored. One that cannot run
here has its reason in place of figures.
"""

from __future__ import annotations

from bench.measure import interleaved, timed
from bench.peers import Workshop
from bench.table import US, Row

_MOST = 10  # a boot takes seconds
# Name, hypervisor, whether a template may be used.
_WAYS = (
    ("uml", "uml", False),
    ("qemu (emulation), booted", "qemu", False),
    ("qemu (emulation), from the template", "qemu", True),
    ("our monitor on KVM, booted", "casemate", False),
    ("our monitor on KVM, from the template", "casemate", True),
)


def measure(workshop: Workshop, count: int) -> list[Row]:
    rows = []
    for way, hypervisor, template in _WAYS:
        environment = ["/usr/bin/env", f"CASEMATE_TEMPLATE={int(template)}"]
        argv = [*environment, workshop.peers[US].program, "do", "--isolation=microvm", f"--hypervisor={hypervisor}", "--", "true"]
        name = f"do in a guest: {way}"
        samples, failures = interleaved(min(count, _MOST), {US: lambda argv=argv, name=name: {name: timed(argv)}})
        rows.append(Row(name, samples.get(name, {}), notes=failures))
    return rows

"""A guest in the place of a container's interface, under each hypervisor: asks and is asked, both ways of a stream, and what that costs. Our own monitor has
Linux here on a KVM that emulates its kernel, from a template that takes a minute and more, once.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.microvm.measure_network import lacking, measure

from casemate.guest import store
from casemate.hypervisor import registry

Result = tuple[str, str, str]


def networks() -> Iterator[Result]:
    for name in registry.NAMES:
        title = f"a network under {name}"
        if why := lacking(name):
            yield title, why, why
            continue
        # Not below a temporary directory that a hypervisor's ids may not enter.
        with tempfile.TemporaryDirectory(dir=store.prepare()) as made:
            Path(made).chmod(0o755)
            try:
                print(f"  {name}: {measure(name, Path(made))}", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                yield title, str(error) or type(error).__name__, ""
                continue
        yield title, "", ""

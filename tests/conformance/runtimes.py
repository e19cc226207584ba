"""The runtimes that conformance compares: runc is the check on the test, the others are ours."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
CASEMATE = str(Path(sys.executable).with_name("casemate"))
ORACLE = "runc"
OURS = ("casemate", "sentry")


def runtimes() -> dict[str, str]:
    """Paths that an engine can start. `sentry` is a file: engines have no word for a runtime's options that all of them know."""
    wrapper = PROJECT / ".cache" / "casemate-sentry"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec {CASEMATE} --isolation sentry "$@"\n')
    wrapper.chmod(0o755)
    return {ORACLE: "/usr/sbin/runc", "casemate": CASEMATE, "sentry": str(wrapper)}


# What the sentry does not do although runc does, by runtime and case, with the reason. docs/guide/sentry.md has each.
DEVIATIONS: dict[str, str] = {
    "sentry: privileged": "mount(2) is EPERM, whoever asks",
    "sentry: list of processes": "podman looks into the host's pid namespace, where the sentry and its zygote are, too",
}

"""The runtimes that conformance compares: runc is the check on the test, the others are ours."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
CASEMATE = str(Path(sys.executable).with_name("casemate"))
ORACLE = "runc"
OURS = ("casemate", "sentry")


# Of the engines, those that run their cases on guests too: a guest takes seconds to boot. Under User Mode Linux, which boots soonest here.
GUESTS = "microvm"
ENGINES_WITH_GUESTS = ("podman", "containerd")


def runtimes() -> dict[str, str]:
    """Paths that an engine can start."""
    return {ORACLE: "/usr/sbin/runc", "casemate": CASEMATE, "sentry": _wrapper("sentry")}


def guests() -> str:
    """As a value of `runtimes`, for GUESTS."""
    return _wrapper(GUESTS)


def _wrapper(isolation: str) -> str:
    """A program: engines have no word for a runtime's options that all of them know."""
    path = PROJECT / ".cache" / f"casemate-{isolation}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {CASEMATE} --isolation {isolation} "$@"\n')
    path.chmod(0o755)
    return str(path)


# What an isolation does not do although runc does, by runtime and case, with the reason. docs/guide/sentry.md and microvm.md have each.
DEVIATIONS: dict[str, str] = {
    "sentry: privileged": "mount(2) is EPERM, whoever asks",
    "sentry: list of processes": "podman looks into the host's pid namespace, where the sentry and its zygote are, too",
    "microvm: list of processes": "podman looks into the host's pid namespace, where the hypervisor's processes are",
    "microvm: memory limit: value": "the container's limit holds in the guest; the cgroup on the host holds the whole machine",
    "microvm: memory limit: update": "the same",
    "microvm: out of memory: told to the engine": "the guest's kernel kills, and engines look at the host's cgroup",
    "microvm: host network": "refused: a guest has a network of its own",
}

# Once in some 200 runs on a busy machine containerd's "exec: user and directory" (or another exec) has no output, on runc as on ours: `ctr` deletes the
# process before it has copied what was said (mended by containerd's pull request 13931). `--only exec --repeat N` tells that from a failure of ours.

"""Measures a sandbox's surface: from the filter that a running one has and, as a cross-check, from inside."""

from __future__ import annotations

import os
import time

from casemate import jsonlite
from casemate.errors import CasemateError, HostError
from casemate.policy.seccomp import hardened_profile
from casemate.report.filters import read_filters
from casemate.report.names import NAMES
from casemate.report.sandbox import sandbox
from casemate.report.surface import Surface, from_filters, from_profile, other_conventions

_SLEEP = "/bin/sleep"
# A program that waits for its sentry cannot be stopped to be looked at.
_BUSY = ["/bin/sh", "-c", "while :; do :; done"]
_PROFILE_FILES = {
    "podman's default": ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"),
    "docker's default": ("/etc/docker/seccomp.json",),
}
# What docker and podman leave a container; their profiles allow more calls to containers with more.
_USUAL_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT".split()
)
_START_S = 5.0
# The kernel passes these by every filter (uretprobe since Linux 6.14): its probes plant them into programs. Called from elsewhere they only fail.
_UNFILTERED = ("uretprobe", "uprobe")


def of_isolation(state_root: str, isolation: str) -> dict[str, object]:
    """The report of a sandbox started for it; see `_report`. Without root, of the profile that a sandbox is given, and `note` says so."""
    if os.geteuid() != 0:
        return _report(from_profile(hardened_profile()), note="counted from the profile: root is needed to read the filter of a running sandbox")
    if isolation == "sentry":
        with sandbox(_BUSY, state_root=state_root, isolation=isolation) as running:
            return _of_sentry(running.pid)
    with sandbox([_SLEEP, "1000"], state_root=state_root, isolation=isolation) as running:
        _wait_for_program(running.pid)
        try:
            return of_process(running.pid)
        except HostError as error:
            return _report(from_profile(hardened_profile()), note=f"counted from the profile: {error}")


def _of_sentry(pid: int) -> dict[str, object]:
    """What programs reach of the host without asking, from the filter that they are born with; `sentry` is the report of the sentry itself, in its jail."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        programs = [program for zygote in _children(pid) for program in _children(zygote) if _is_busy(program)]
        if programs:
            report, jail = of_process(programs[0]), of_process(pid)
            report["note"] = "what is not reachable is answered by the sentry, which has some of it continued by the host after a check of its registers"
            return report | {"sentry": jail}
        time.sleep(0.005)
    raise CasemateError("the sandbox's sentry did not start")


def _is_busy(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0] == b"R" and int(fields[11]) > 1  # ticks in its own code


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return [int(child) for child in file.read().split()]


def of_process(pid: int) -> dict[str, object]:
    """The report of a process that runs. Raises HostError where the kernel does not show its filters, CasemateError without such a process."""
    filters = read_filters(pid)
    report = _report(from_filters(filters))
    report |= {"source": "filter", "filters": len(filters), "instructions": sum(len(program) for program in filters)}
    return report | {"conventions": other_conventions(filters)}


def _report(surface: Surface, note: str = "") -> dict[str, object]:
    """source: "filter" or "profile".   total: calls that have a name.   reachable: names, by number; of these conditional: only with some arguments.
    refused: name -> what the caller gets.   conventions: x32 and i386 -> what a caller gets, "" if something passes."""
    return {
        "source": "profile",
        "note": note,
        "total": len(NAMES),
        "counts": {"reachable": len(surface.reachable), "conditional": len(surface.conditional), "refused": len(surface.refused)},
        "reachable": surface.reachable,
        "conditional": surface.conditional,
        "refused": surface.refused,
    }


def _wait_for_program(pid: int) -> None:
    """Until the process runs the sandbox's program, under all its filters."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().startswith(_SLEEP.encode() + b"\0"):
                return
        time.sleep(0.005)
    raise CasemateError("the sandbox's program did not start")


def from_inside(report: dict[str, object], state_root: str, isolation: str) -> dict[str, object]:
    """Tries all calls in a sandbox, and outside to learn what this kernel has.

    implemented: calls that the kernel has.   tried, reached: how many.   refused: error -> how many.   skipped: names not tried.
    unfiltered: names that reach the kernel whatever a filter says.
    disagree: name -> what happened, of calls that the filter refuses but that got another answer, or that it allows and that got its refusal.
    """
    from casemate.report.inside import SKIPPED, in_sandbox, outside

    plain = outside()
    confined = in_sandbox(state_root, isolation)
    refused, conditional = report["refused"], report["conditional"]
    assert isinstance(refused, dict)
    assert isinstance(conditional, list)
    disagree = {}
    unfiltered = []
    counts: dict[str, int] = {}
    for name, got in confined.items():
        if name in refused:
            if name in _UNFILTERED and got == plain[name] != refused[name]:
                unfiltered.append(name)
                continue
            counts[got] = counts.get(got, 0) + 1
            if got != refused[name]:
                disagree[name] = got
        elif name not in conditional and got in ("EPERM", "ENOSYS", "killed") and plain[name] != got:
            disagree[name] = got
    return {
        "implemented": sum(1 for got in plain.values() if got != "ENOSYS") + len(SKIPPED),
        "tried": len(confined),
        "reached": len(confined) - sum(counts.values()),
        "refused": counts,
        "skipped": sorted(SKIPPED),
        "unfiltered": unfiltered,
        "disagree": disagree,
    }


def others() -> dict[str, dict[str, object]]:
    """For comparison: an unconfined process, and the profiles of other runtimes that are on this host. name -> {reachable, source}."""
    found: dict[str, dict[str, object]] = {"unconfined": {"reachable": len(NAMES), "source": "no filter"}}
    for name, paths in _PROFILE_FILES.items():
        path = next((path for path in paths if os.path.exists(path)), "")
        if not path:
            continue
        try:
            with open(path, "rb") as file:
                profile = jsonlite.loads(file.read())
            if isinstance(profile, dict):
                found[name] = {"reachable": len(from_profile(profile, _USUAL_CAPABILITIES).reachable), "source": path}
        except (OSError, ValueError, CasemateError):
            continue  # a comparison that cannot be made is left out
    return found

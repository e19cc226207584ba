"""`casemate do -- true` beside bwrap with a like jail over the host's root: new namespaces of all kinds, a read-only root, secrets out of sight.

bwrap's has less: no writable layer over the root, no cgroup, no seccomp profile.
"""

from __future__ import annotations

from bench.measure import interleaved, timed
from bench.peers import Workshop
from bench.table import Row

NAME = "do -- true"
_HIDDEN = ("/root", "/home", "/run", "/tmp", "/var/tmp")


def measure(workshop: Workshop, count: int) -> list[Row]:
    jail = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    jail += [word for place in _HIDDEN for word in ("--tmpfs", place)]
    jail += ["--ro-bind", "/dev/null", "/etc/shadow", "--hostname", "sandbox", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--cap-drop", "ALL"]
    commands = {
        "casemate": [workshop.peers["casemate"].program, "do", "--", "true"],
        "bwrap": [workshop.peers["bwrap"].program, *jail, "--", "true"],
    }
    actions = {peer: (lambda argv=commands[peer]: {NAME: timed(argv)}) for peer in workshop.installed(*commands)}
    samples, failures = interleaved(count, actions)
    return [Row(NAME, samples.get(NAME, {}), against="bwrap", notes=failures)]

"""The `sentry` isolation: an application kernel in user space serves every system call of the program."""

from __future__ import annotations

import os

from casemate.isolation.base import Launch
from casemate.isolation.namespaces import Namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.isolation.base import Plan

# What `init` does to itself at the end of a plan, and the sentry does for the program instead.
_REPLACED = frozenset(("check_exec", "exec", "seccomp", "landlock", "apparmor", "selinux"))
_OLDEST_KERNEL = (5, 19)  # SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV


class Sentry(Namespaces):
    """The container's first process on the host is the sentry, in the namespaces and cgroups that the plan made; the program's are further in."""

    name = "sentry"
    oldest_kernel = _OLDEST_KERNEL
    needs = "seccomp user notifications that only a kill interrupts"

    def create(self, launch: Launch) -> int:
        return super().create(_with_sentry(launch))


def _with_sentry(launch: Launch) -> Launch:
    return Launch(sentry_plan(launch.plan), stdio=launch.stdio, descriptors=launch.descriptors, handlers=launch.handlers)


def sentry_plan(plan: Plan) -> Plan:
    """The plan with the program's last steps handed to the sentry. A plan without a program stays as it is."""
    ops = plan["ops"]
    assert isinstance(ops, list)
    found = {str(op["op"]): op for op in ops}
    program, who, place = found.get("exec"), found.get("credentials"), found.get("chdir")
    if program is None or who is None:
        return plan
    sentry = {
        "op": "sentry",
        "args": program["args"],
        "env": program["env"],
        "cwd": place["path"] if place else "/",
        "uid": who["uid"],
        "gid": who["gid"],
        "groups": who["groups"],
        "umask": who["umask"],
        "capabilities": who["capabilities"] or {},
        "no_new_privs": "no_new_privs" in found,
        "strace": os.environ.get("CASEMATE_STRACE") == "1",
    }
    kept = [op for op in ops if op["op"] not in _REPLACED]
    # Before the ids are dropped: mapping them in a further user namespace needs CAP_SETFCAP.
    kept.insert(kept.index(who), {"op": "zygote", "uid": who["uid"], "gid": who["gid"]})
    return {**plan, "ops": [*kept, sentry]}

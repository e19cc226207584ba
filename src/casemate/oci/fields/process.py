"""process: ids, capabilities, limits, scheduling, labels, the program. Source: config.md "process", config-linux.md "seccomp"."""

from __future__ import annotations

import os

from casemate.errors import SpecError
from casemate.oci.checks import known
from casemate.oci.plan import Phase
from casemate.oci.schema import (
    CAPABILITY_SETS,
    IO_CLASSES,
    MEMORY_POLICIES,
    MEMORY_POLICY_FLAGS,
    PERSONALITIES,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
    SECCOMP,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.plan import PlanBuilder

    Object = dict[str, object]

_MAX_PASSWD = 1 << 20
_MAX_CPUS = 8192  # arch/x86/Kconfig NR_CPUS


def limits(process: Object, plan: PlanBuilder) -> None:
    """What must be set while it is still permitted."""
    adjustment = process.get("oomScoreAdj")
    if isinstance(adjustment, int):
        plan.oom_score_adj = adjustment
    for limit in process.get("rlimits") or []:  # type: ignore[attr-defined]
        plan.add(Phase.LIMITS, "rlimit", type=limit["type"], soft=limit["soft"], hard=limit["hard"])
    _scheduling(process, plan)


def _scheduling(process: Object, plan: PlanBuilder) -> None:
    scheduler = process.get("scheduler")
    if isinstance(scheduler, dict):
        flags = sum(SCHEDULER_FLAGS[name] for name in set(scheduler.get("flags") or []))
        numbers = {key: scheduler.get(key) or 0 for key in ("nice", "priority", "runtime", "deadline", "period")}
        plan.add(Phase.LIMITS, "scheduler", policy=SCHEDULER_POLICIES[scheduler["policy"]], flags=flags, **numbers)
    io = process.get("ioPriority")
    if isinstance(io, dict):
        plan.add(Phase.LIMITS, "io_priority", **{"class": IO_CLASSES[io["class"]], "priority": io.get("priority") or 0})


def affinity(process: Object, plan: PlanBuilder) -> None:
    """process.execCPUAffinity: `initial` before the process joins its cgroup, `final` after."""
    wanted = process.get("execCPUAffinity")
    if not isinstance(wanted, dict):
        return
    for key, phase in (("initial", Phase.CGROUP_BARRIER - 1), ("final", Phase.CGROUP_BARRIER + 1)):
        if wanted.get(key):
            plan.add(phase, "cpu_affinity", cpus=cpu_list(wanted[key], f"process.execCPUAffinity.{key}", plan))


def cpu_list(text: str, path: str, plan: PlanBuilder) -> list[int]:
    """The numbers of a list such as 0-2,7. Raises SpecError."""
    numbers: set[int] = set()
    parts = text.split(",")
    for part in parts:
        first, dash, last = part.strip().partition("-")
        start, end = _cpu(first), _cpu(last if dash else first)
        if not 0 <= start <= end or len(parts) > _MAX_CPUS:
            raise SpecError(file=plan.context.config_file, json_path=path, value=text, expected=f"a list such as 0-2,7 of numbers below {_MAX_CPUS}")
        numbers.update(range(start, end + 1))
    return sorted(numbers)


def _cpu(word: str) -> int:
    """The number; -1 if it is none that a kernel has."""
    is_number = word.isascii() and word.isdecimal() and len(word) < 6
    return int(word) if is_number and int(word) < _MAX_CPUS else -1


def terminal(process: Object, plan: PlanBuilder) -> None:
    """process.terminal and consoleSize."""
    size = process.get("consoleSize")
    columns, rows = (size["width"], size["height"]) if isinstance(size, dict) else plan.context.terminal_size
    plan.add(Phase.CONSOLE, "pty", columns=columns, rows=rows)


def lower(process: Object, linux: Object, plan: PlanBuilder, *, use_agent: bool) -> None:
    """From labels to the program."""
    _labels(process, plan)
    _linux_attributes(linux, plan)
    no_new_privileges = bool(process.get("noNewPrivileges"))
    if no_new_privileges:
        plan.add(Phase.NO_NEW_PRIVILEGES, "no_new_privs")
    _credentials(process, plan)
    cwd = str(process["cwd"])
    plan.add(Phase.WORKING_DIRECTORY, "chdir", path=cwd, create=False)
    if not no_new_privileges or cwd != "/":
        plan.add(Phase.FIND_PROGRAM - 1, "chdir", path=cwd, create=True)
    _seccomp(linux, Phase.SECCOMP if no_new_privileges else Phase.SECCOMP_EARLY, plan)
    environment = _environment(process, plan)
    if use_agent:
        plan.add(Phase.PROGRAM, "agent")
        return
    plan.add(Phase.FIND_PROGRAM, "check_exec", args=process["args"], env=environment)
    plan.add(Phase.PROGRAM, "exec", args=process["args"], env=environment)
    plan.keep_fds += range(3, 3 + plan.context.preserve_fds)


def _labels(process: Object, plan: PlanBuilder) -> None:
    host = plan.context.host
    for key, op, present, name in (
        ("apparmorProfile", "apparmor", host.has_apparmor, "AppArmor"),
        ("selinuxLabel", "selinux", host.has_selinux, "SELinux"),
    ):
        label = process.get(key)
        if not label:
            continue
        if not present:
            raise SpecError(file=plan.context.config_file, json_path=f"process.{key}", value=label, expected=f"a host with {name}; this one has none")
        plan.add(Phase.LABELS, op, label=label)


def _linux_attributes(linux: Object, plan: PlanBuilder) -> None:
    personality = linux.get("personality")
    if isinstance(personality, dict):
        plan.add(Phase.LIMITS, "personality", persona=PERSONALITIES[personality["domain"]])
    policy = linux.get("memoryPolicy")
    if isinstance(policy, dict):
        flags = sum(MEMORY_POLICY_FLAGS[name] for name in set(policy.get("flags") or []))
        nodes = cpu_list(policy["nodes"], "linux.memoryPolicy.nodes", plan) if policy.get("nodes") else []
        plan.add(Phase.LIMITS, "memory_policy", mode=MEMORY_POLICIES[policy["mode"]], flags=flags, nodes=nodes)


def _credentials(process: Object, plan: PlanBuilder) -> None:
    user = process["user"]
    assert isinstance(user, dict)
    capabilities = process.get("capabilities")
    plan.add(
        Phase.CREDENTIALS,
        "credentials",
        uid=user["uid"],
        gid=user["gid"],
        groups=user.get("additionalGids") or [],
        umask=user.get("umask"),
        capabilities=known(capabilities, CAPABILITY_SETS) if isinstance(capabilities, dict) else None,
    )


def _seccomp(linux: Object, phase: int, plan: PlanBuilder) -> None:
    profile = linux.get("seccomp")
    if isinstance(profile, dict):
        plan.add(phase, "seccomp", profile=known(profile, SECCOMP), listener=bool(profile.get("listenerPath")), log=False)


def _environment(process: Object, plan: PlanBuilder) -> list[str]:
    environment = [str(entry) for entry in process.get("env") or []]  # type: ignore[attr-defined]
    if not any(entry.startswith("HOME=") for entry in environment):
        user = process["user"]
        assert isinstance(user, dict)
        environment.append(f"HOME={home_directory(plan.context.rootfs, user['uid'])}")
    return environment


def home_directory(rootfs: str, uid: int) -> str:
    """The home of `uid` in the root's /etc/passwd; `/` if there is none. The root is hostile: no link is followed, and the size is bounded."""
    try:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            etc = os.open("etc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
            try:
                fd = os.open("passwd", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=etc)
            finally:
                os.close(etc)
        finally:
            os.close(root)
    except OSError:
        return "/"
    try:
        text = os.read(fd, _MAX_PASSWD)
    except OSError:
        return "/"
    finally:
        os.close(fd)
    for line in text.split(b"\n"):
        parts = line.split(b":")
        if len(parts) >= 6 and parts[2] == str(uid).encode() and parts[5].startswith(b"/"):
            return parts[5].decode("utf-8", "replace").replace("\0", "")
    return "/"

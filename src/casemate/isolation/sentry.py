"""The `sentry` isolation: an application kernel in user space serves every system call of the program.

No program of a container may ever run natively: a plan that would execute one elsewhere than in the sentry is refused here.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate.errors import EngineError, HostError
from casemate.isolation.base import Launch
from casemate.isolation.engine_process import launch_engine
from casemate.isolation.namespaces import Namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.isolation.base import Handlers, Plan, PodSandbox

    Op = dict[str, object]

# What `init` does to itself at the end of a plan, and the sentry does for the program instead.
_REPLACED = frozenset(("agent", "exec", "seccomp", "landlock", "apparmor", "selinux", "rlimit"))
# What `exec`'s process of ours still does: it joins nothing of the container's but the cgroup, and runs nothing.
_KEPT_IN_EXEC = frozenset(("barrier", "setsid", "keyring", "cpu_affinity"))
# The engine in another role (crates/engine), whose socket has the number that crates/sentry/src/boot/streams.rs gives it.
_AGENT: Op = {"args": ["casemate-agent", "agent", "3"], "env": []}
_CLONE_NEWUSER, _CLONE_NEWPID = 0x10000000, 0x20000000
# crates/sentry/src/boot/process.rs, reduce_capabilities
_KEPT = ["CAP_" + name for name in "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID MKNOD SETFCAP NET_BIND_SERVICE NET_RAW".split()]
_HIGHEST_SCORE = 900
# Containers beside a pod's first, at once. Their threads are made before the jail is closed: four each, of some 30 KiB.
_MOST_MEMBERS = 16
_EXEC = "exec: "  # crates/sentry/src/boot/program.rs
_OLDEST_KERNEL = (5, 19)  # SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV


class Sentry(Namespaces):
    """The container's first process on the host is the sentry, in the namespaces and cgroups that the plan made; the program's are further in."""

    name = "sentry"
    oldest_kernel = _OLDEST_KERNEL
    needs = "seccomp user notifications that only a kill interrupts"
    has_control = True
    shows_limits = True
    traces_calls = True
    serves_pods = True

    def create(self, launch: Launch) -> int:
        # The host's: what the container's /dev has by that name is its image's to say.
        random = os.open("/dev/urandom", os.O_RDONLY | os.O_CLOEXEC)
        try:
            plan = sentry_plan(launch.plan, launch.agent_fd, launch.cgroup_files, random, launch.strace)
            if launch.is_pod:
                plan = {**plan, "ops": _for_a_pod(_ops(plan))}
            descriptors = (*launch.descriptors, random)
            return launch_engine(Launch(plan, stdio=launch.stdio, descriptors=descriptors, handlers=launch.handlers))
        except EngineError as error:
            raise _of_the_program(error) from None
        finally:
            os.close(random)

    def join(self, launch: Launch, sandbox: PodSandbox) -> int:
        channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        pidfd = os.pidfd_open(sandbox.pid)
        try:
            channel.connect(sandbox.control_path)
            plan = join_plan(launch, channel.fileno(), pidfd, sandbox.pid)
            descriptors = (*launch.descriptors, channel.fileno(), pidfd)
            return launch_engine(Launch(plan, stdio=launch.stdio, descriptors=descriptors, handlers=launch.handlers))
        finally:
            os.close(pidfd)
            channel.close()

    def start(self, channel_path: str, handlers: Handlers, pid: int) -> None:
        try:
            super().start(channel_path, handlers, pid)
        except EngineError as error:
            raise _of_the_program(error) from None

    def exec(self, launch: Launch, channel_path: str) -> int:
        channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            channel.connect(channel_path)
            plan = exec_plan(launch.plan, channel.fileno())
            descriptors = (*launch.descriptors, channel.fileno())
            return launch_engine(Launch(plan, stdio=launch.stdio, descriptors=descriptors, handlers=launch.handlers))
        except EngineError as error:
            raise _of_the_program(error) from None
        finally:
            channel.close()


def _of_the_program(error: EngineError) -> EngineError:
    """The sentry's words for a program that cannot be executed, as if the operation that it stands in for had failed: who starts programs looks for that."""
    if not error.message.startswith(_EXEC):
        return error
    return EngineError(op="exec", index=error.index, errno=error.errno, message=error.message.removeprefix(_EXEC))


def sentry_plan(plan: Plan, agent_fd: int = -1, cgroup_files: dict[str, int] | None = None, random_fd: int | None = None, strace: Op | None = None) -> Plan:
    """The plan with the program's last steps handed to the sentry. A plan without `process` stays as it is: `init` refuses it at start.

    Raises HostError for what would run something of the container's natively.
    """
    ops = _ops(plan)
    names = {op["op"] for op in ops}
    hooks = [op for op in ops if op["op"] == "hook" and op.get("kind") == "startContainer"]
    if "credentials" not in names or not names & {"exec", "agent"}:
        return plan
    program = {**_program(ops), "oom_score_adj": plan.get("oom_score_adj") or 0}
    if "agent" in names:
        program["agent"] = agent_fd
    who = next(op for op in ops if op["op"] == "credentials")
    program["hooks"] = [{key: value for key, value in hook.items() if key != "op"} for hook in hooks]
    kept = [op for op in ops if op["op"] not in _REPLACED and op not in hooks]
    # Before the ids are dropped: mapping them in a further user namespace needs CAP_SETFCAP, and raising a hard limit CAP_SYS_RESOURCE.
    place = kept.index(who)
    jail: list[Op] = [] if "no_new_privs" in names else [{"op": "no_new_privs"}]
    # The zygote is in the same scope, so that the sentry may signal programs and read their memory; nobody further out.
    jail.append({"op": "landlock", "scoped": True, "best_effort": True})
    kept[place:place] = [*jail, {"op": "zygote", "uid": who["uid"], "gid": who["gid"], "rlimits": program["rlimits"]}]
    filtering = next((op for op in ops if op["op"] == "seccomp"), None)
    settings: Op = {"cgroup": cgroup_files or {}, "set_id_files": _allows_set_id_files(filtering), "strace": strace}
    if random_fd is not None:
        settings["random"] = random_fd
    return {**plan, "oom_score_adj": _below_programs(plan), "ops": [*kept, {"op": "sentry", **program, **settings}]}


def _for_a_pod(ops: list[Op]) -> list[Op]:
    """A pod's sentry serves further containers, of other users and with other capabilities than its first: on the host it is root of the user namespace with
    what it needs for files and sockets. It is in no Landlock domain, since it could not read the memory of programs outside of that.
    """
    changed = []
    for op in ops:
        if op["op"] == "zygote":
            changed.append({**op, "uid": 0, "gid": 0})
        elif op["op"] == "credentials":
            sets = {"bounding": _KEPT, "effective": _KEPT, "permitted": _KEPT}
            changed.append({**op, "uid": 0, "gid": 0, "groups": [], "capabilities": sets})
        elif op["op"] == "sentry":
            changed.append({**op, "members": _MOST_MEMBERS})
        elif op["op"] != "landlock":
            changed.append(op)
    return changed


def join_plan(launch: Launch, control_fd: int, pidfd: int, pid: int) -> Plan:
    """The plan of a further container of a pod: its first process makes mounts and a zygote in the sandbox's user and pid namespaces, and hands them over.

    The program's processes have a pid namespace of their own in any case. Raises HostError for what a pod's container cannot have.
    """
    plan = sentry_plan(launch.plan, cgroup_files=launch.cgroup_files, strace=launch.strace)
    if plan.get("id_maps"):
        raise HostError("a container of a pod has the user namespace of the pod's sandbox", "give it that one's path, or none")
    ops = [op if op["op"] != "zygote" else {**op, "uid": 0, "gid": 0} for op in _ops(plan)]
    last = ops.pop()
    if last["op"] != "sentry":
        return plan  # without a program: `init` refuses it at start
    program = {key: value for key, value in last.items() if key != "op"}
    joined, new = plan["join"], plan["new"]
    assert isinstance(joined, list)
    assert isinstance(new, list)
    shared = {"kind": "pidfd", "fd": pidfd, "flags": _user_and_pid(pid)}
    return {
        **plan,
        "join": [shared, *(entry for entry in joined if entry["kind"] not in ("user", "pid"))],
        "new": [kind for kind in new if kind not in ("user", "pid")],
        "ops": [*ops, {"op": "sentry_join", "control": control_fd, "program": program}],
    }


def _user_and_pid(pid: int) -> int:
    """CLONE_NEW* of the process's pid namespace, and of its user namespace if that is not this process's own, which cannot be joined."""
    ours, theirs = os.stat("/proc/self/ns/user"), os.stat(f"/proc/{pid}/ns/user")
    return _CLONE_NEWPID | (0 if ours.st_ino == theirs.st_ino else _CLONE_NEWUSER)


def _below_programs(plan: Plan) -> object:
    """The sentry's own score: programs are to be killed before it, and theirs is 100 above (crates/platform/src/zygote.rs), at most 1000."""
    score = plan.get("oom_score_adj")
    return min(score, _HIGHEST_SCORE) if isinstance(score, int) else score


def exec_plan(plan: Plan, control_fd: int) -> Plan:
    """`exec` as a process of ours outside of the container's namespaces, which asks the sentry behind `control_fd` to run the program. Raises HostError."""
    ops = _ops(plan)
    if not {"exec", "credentials"} <= {op["op"] for op in ops}:
        raise HostError("isolation 'sentry' cannot run this in the container: the plan has no program", "this is a bug of casemate: please report it")
    terminal = next((op for op in ops if op["op"] == "pty"), None)
    size = None if terminal is None else [terminal["columns"], terminal["rows"]]
    request: Op = {"op": "sentry_exec", "control": control_fd, "terminal": size, "program": {**_program(ops), "oom_score_adj": plan.get("oom_score_adj") or 0}}
    kept = [op for op in ops if op["op"] in _KEPT_IN_EXEC]
    return {**plan, "join": [], "ops": [*kept, {"op": "no_new_privs"}, request]}


def _ops(plan: Plan) -> list[Op]:
    ops = plan["ops"]
    assert isinstance(ops, list)
    return ops


def _program(ops: list[Op]) -> Op:
    """What the sentry is to know of the program."""
    found = {str(op["op"]): op for op in ops}
    program, who, place = found.get("exec") or _AGENT, found["credentials"], found.get("chdir")
    return {
        "args": program["args"],
        "env": program["env"],
        "cwd": place["path"] if place else "/",
        "uid": who["uid"],
        "gid": who["gid"],
        "groups": who["groups"],
        "umask": who["umask"],
        "capabilities": who["capabilities"] or {},
        "no_new_privs": "no_new_privs" in found,
        "rlimits": [[op["type"], op["soft"], op["hard"]] for op in ops if op["op"] == "rlimit"],
    }


def _allows_set_id_files(filtering: Op | None) -> bool:
    """Whether the filter that the sentry stands in for lets files have the set-id bits: the one rule of it that protects the host's files, not its kernel."""
    profile = filtering.get("profile") if filtering else None
    if not isinstance(profile, dict):
        return True
    rules = [rule for rule in profile.get("syscalls") or [] if "chmod" in rule.get("names", ())]
    if not rules:
        return profile.get("defaultAction") == "SCMP_ACT_ALLOW"
    return any(rule.get("action") == "SCMP_ACT_ALLOW" and not rule.get("args") for rule in rules)

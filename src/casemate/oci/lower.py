"""Lowers a checked specification to a plan: each field by its own function in fields/, the order by plan.Phase."""

from __future__ import annotations

from casemate.isolation.base import RECORDED
from casemate.oci.fields import hooks, mounts, namespaces, process, root, system
from casemate.oci.plan import Phase, PlanBuilder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.context import LowerContext

    Object = dict[str, object]


def lower_create(spec: Object, context: LowerContext) -> Object:
    """The plan of a container's first process. Raises SpecError for what this host cannot do."""
    plan = PlanBuilder(context)
    linux = spec.get("linux")
    linux = linux if isinstance(linux, dict) else {}
    namespaces.create(linux, plan)
    if not context.at_once:
        plan.add(Phase.CGROUP_BARRIER, "barrier", name="cgroup")
    session(plan)
    root.lower(spec, linux, plan)
    mounts.lower(spec, linux, plan)
    system.lower(spec, linux, plan)
    hooks.lower(spec, plan)
    program = spec.get("process")
    if isinstance(program, dict):
        process.limits(program, plan)
        if program.get("terminal"):
            process.terminal(program, plan)
            plan.add(Phase.CONSOLE, "console_device")
        _await_start(plan)
        process.lower(program, linux, plan, use_agent=context.use_agent)
        if context.landlock:
            plan.add(Phase.LANDLOCK, "landlock", best_effort=True, **context.landlock)
        if context.die_with_parent:
            # After the credentials: a change of ids clears it.
            plan.add(Phase.WORKING_DIRECTORY, "parent_death_signal", signal=9)
    else:
        _await_start(plan)
    return plan.build()


def _await_start(plan: PlanBuilder) -> None:
    if plan.context.at_once:
        plan.add(Phase.AWAIT_START, "barrier", name=RECORDED)
    else:
        plan.add(Phase.AWAIT_START, "await_start")


def lower_exec(spec: Object, program: Object, context: LowerContext) -> Object:
    """The plan of a further process: the caller adds the `join`. Raises SpecError."""
    plan = PlanBuilder(context)
    linux = spec.get("linux")
    linux = linux if isinstance(linux, dict) else {}
    if namespaces.has_user_namespace(linux):
        plan.add(Phase.IDENTITY, "become_root")
    plan.add(Phase.CGROUP_BARRIER, "barrier", name="cgroup")
    session(plan)
    process.affinity(program, plan)
    process.limits(program, plan)
    # The namespaces are joined: the root is the container's already.
    plan.add(Phase.ROOT, "joined_root")
    if program.get("terminal"):
        process.terminal(program, plan)
    process.lower(program, linux, plan, use_agent=False)
    return plan.build()


def session(plan: PlanBuilder) -> None:
    """A session and a keyring of its own: keys of the caller's session could be read (CVE-2014-9529 and the like are only the worst of it)."""
    plan.add(Phase.SESSION, "setsid")
    if not plan.context.no_new_keyring:
        plan.add(Phase.SESSION, "keyring", name=f"_ses.{plan.context.container_id}")

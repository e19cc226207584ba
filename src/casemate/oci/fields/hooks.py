"""hooks. prestart, createRuntime, poststart and poststop are the starter's; the others run in the container. Source: config.md "POSIX-platform Hooks"."""

from __future__ import annotations

from casemate.oci.plan import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.plan import PlanBuilder

    Object = dict[str, object]


def lower(spec: Object, plan: PlanBuilder) -> None:
    """A barrier for the starter's hooks, an operation for each of the container's."""
    hooks = spec.get("hooks")
    if not isinstance(hooks, dict):
        return
    if hooks.get("prestart") or hooks.get("createRuntime"):
        plan.add(Phase.CREATE_RUNTIME, "barrier", name="createRuntime")
    for kind, phase, status in (("createContainer", Phase.CREATE_CONTAINER, "creating"), ("startContainer", Phase.START_CONTAINER, "created")):
        for hook in hooks.get(kind) or []:
            state = plan.context.state_json(status)
            plan.add(
                phase,
                "hook",
                path=hook["path"],
                args=hook.get("args") or [],
                env=hook.get("env") or [],
                timeout_s=hook.get("timeout"),
                state=state,
                kind=kind,
            )

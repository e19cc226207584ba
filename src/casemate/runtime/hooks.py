"""Hooks that run in the runtime's own namespaces: prestart, createRuntime, poststart, poststop.

createContainer and startContainer run inside the container, by the engine (`hook` of the plan).
"""

from __future__ import annotations

import os

from casemate import jsonlite
from casemate.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.runtime.container import Container

_OUTPUT_LIMIT = 4096


def run_hooks(container: Container, spec: dict[str, object], kind: str, status: str) -> None:
    """Runs the hooks of one kind in order; the first that fails ends it. Raises HookError."""
    hooks = spec.get("hooks")
    entries = hooks.get(kind) if isinstance(hooks, dict) else None
    if not entries:
        return
    state = jsonlite.dumps(container.state(status)).encode()
    for hook in entries:
        _run_hook(container.id, kind, hook, state)


def _run_hook(container_id: str, kind: str, hook: dict[str, object], state: bytes) -> None:
    import subprocess

    path = str(hook["path"])
    arguments = [str(item) for item in hook.get("args") or [path]]  # type: ignore[attr-defined]
    environment = dict(str(item).partition("=")[::2] for item in hook.get("env") or [])  # type: ignore[attr-defined]
    timeout = hook.get("timeout")
    try:
        done = subprocess.Popen(
            arguments, executable=path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise HookError(container_id, kind, path, error.strerror or str(error)) from None
    try:
        output, _ = done.communicate(state, timeout=timeout if isinstance(timeout, int) else None)
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, 9)
        done.wait()
        raise HookError(container_id, kind, path, f"still ran after its timeout of {timeout} s") from None
    if done.returncode != 0:
        text = output[-_OUTPUT_LIMIT:].decode("utf-8", "replace").strip()
        how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise HookError(container_id, kind, path, f"{how}{': ' + text if text else ''}")

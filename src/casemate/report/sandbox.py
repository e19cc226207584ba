"""A hardened sandbox for measurements: the host's root, no network, nothing shown but the program."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from casemate.policy.hardened import Options, hardened_spec
from casemate.policy.ids import lend
from casemate.policy.toolchains import installations
from casemate.runtime.launch import Running, launch
from casemate.runtime.overlay import Layer


@contextmanager
def sandbox(arguments: list[str], *, state_root: str, isolation: str, stdout: int = 1, confined: bool = True, limits: bool = False) -> Iterator[Running]:
    """A running sandbox, deleted at the end. confined: with the seccomp profile. limits: with the process limit, for which a host's user needs cgroups.

    Raises what `launch` raises.
    """
    container_id = f"report-{os.getpid()}-{os.urandom(4).hex()}"
    options = Options(arguments)
    options.lent = lend(state_root)
    if not limits:
        options.pids = 0
    options.shown = installations(arguments[0])
    spec = hardened_spec(options)
    linux = spec["linux"]
    if not confined and isinstance(linux, dict):
        del linux["seccomp"]
    layer = Layer(os.path.join(state_root, f".layer-{container_id}"))
    spec["root"] = {"path": layer.root}

    def configure(request: object) -> None:
        request.overlay = layer.plan("/")  # type: ignore[attr-defined]

    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        layer.make("", options.lent.uid, options.lent.gid)
        running = launch(
            spec,
            container_id=container_id,
            bundle=layer.scratch,
            state_root=state_root,
            stdio=(nothing, stdout, 2),
            isolation=isolation,
            configure=configure,
        )
        try:
            yield running
        finally:
            running.delete()
    finally:
        os.close(nothing)
        shutil.rmtree(layer.scratch, ignore_errors=True)

"""A hardened sandbox with a private writable layer over a root that stays as it is: what `do` and the SDK start."""

from __future__ import annotations

import os
import time

from casemate.errors import CgroupError, ContainerExists, EngineError
from casemate.policy.hardened import LANDLOCK, Options, hardened_spec
from casemate.policy.toolchains import find_program, installations
from casemate.runtime.host_root import bound, read_submounts, split
from casemate.runtime.launch import Running, launch
from casemate.runtime.overlay import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.runtime.request import CreateRequest
    from casemate.runtime.strace import Strace


_NO_IDMAP = "id-mapped mount"  # the engine's words (crates/init/src/ops/mount_idmap.rs)


_ORPHAN_AGE_S = 60


class Start:
    """How to start one: everything that is not the sandbox itself."""

    __slots__ = ("annotations", "container_id", "die_with_parent", "isolation", "state_root", "stdio", "strace", "terminal_size", "use_agent", "warn")

    def __init__(self, container_id: str, state_root: str) -> None:
        self.container_id = container_id
        self.state_root = state_root
        self.isolation = ""
        self.stdio = (0, 1, 2)
        self.terminal_size = (0, 0)
        self.strace: Strace | None = None
        self.use_agent = False
        self.die_with_parent = False  # of this very thread: only for a program of one thread
        self.annotations: dict[str, str] = {}
        self.warn: Callable[[str], None] = _say_nothing


def _say_nothing(_: str) -> None:
    """For who has nobody to tell."""


def start_sandbox(options: Options, how: Start) -> tuple[Running, Layer]:
    """Makes the layer and starts the sandbox, which takes the layer with it when it is deleted. On an error nothing is left.

    A host's user without cgroups still gets a process limit, by rlimit. A bind whose file system knows no id-mapped mounts is shown as it is, and
    `how.warn` is told. Raises what `launch` raises.
    """
    while True:
        try:
            return _start(options, how)
        except CgroupError as error:
            if os.geteuid() == 0 or options.pids_by_rlimit or not error.field.startswith("linux.resources.pids"):
                raise
            options.pids_by_rlimit = True
        except EngineError as error:
            refused = [] if _NO_IDMAP not in error.message else [bind for bind in options.binds if f'"{bind[1]}"' in error.message]
            new = [destination for _, destination, _ in refused if destination not in options.binds_as_they_are]
            if not new:
                raise
            options.binds_as_they_are += new
            how.warn(f"bind {new[0]}: its file system cannot map ids, so the sandbox writes there only what everybody may")


def _start(options: Options, how: Start) -> tuple[Running, Layer]:
    layer = Layer(os.path.join(how.state_root, f".layer-{how.container_id}"))
    # One overlay over the whole root, which without privileges the host's root is no lower layer for.
    whole = os.geteuid() == 0 or bool(options.rootfs)
    lower = options.rootfs or "/"
    spec = hardened_spec(options)
    spec["root"] = {"path": layer.root}
    if how.annotations:
        spec["annotations"] = how.annotations

    def configure(request: CreateRequest) -> None:
        request.overlay = layer.plan(lower) if whole else None
        request.die_with_parent = how.die_with_parent
        request.landlock = LANDLOCK
        request.strace = how.strace

    _remove_orphan(layer, os.path.join(how.state_root, how.container_id))
    try:
        layer.make(lower.rstrip("/"), options.lent.uid, options.lent.gid)
    except FileExistsError:
        raise ContainerExists(how.container_id) from None  # its layer at least: another start of this name is at work
    try:
        if not options.rootfs:
            mounted = read_submounts()
            spec["mounts"] = [*(bound(mounted) if whole else split(layer, mounted)), *spec["mounts"]]  # type: ignore[misc]
        running = launch(
            spec,
            container_id=how.container_id,
            bundle=layer.scratch,
            state_root=how.state_root,
            stdio=how.stdio,
            isolation=how.isolation,
            use_agent=how.use_agent,
            scratch=[layer.scratch],
            terminal_size=how.terminal_size,
            configure=configure,
        )
    except BaseException:
        layer.remove()
        raise
    return running, layer


def _remove_orphan(layer: Layer, state: str) -> None:
    """Removes a layer of this name without a state beside it, which a start that was killed in between left. One at work has its state in milliseconds."""
    try:
        age_s = time.time() - os.stat(layer.scratch, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return
    if age_s > _ORPHAN_AGE_S and not os.path.lexists(state):
        layer.remove()


def show_program(options: Options, name: str, search_path: str) -> str:
    """Makes a program that the caller's PATH finds visible, with its installation if it lies below a hidden directory; returns its path, or "".

    A program that needs nothing shown keeps its name.
    """
    program = find_program(name, search_path)
    if not program:
        return ""
    # A version manager's shim looks at its own name, so it stays what it is.
    program = os.path.realpath(program) if os.path.basename(os.path.dirname(program)) != "shims" else program
    shown = installations(program)
    options.shown += [path for path in shown if path not in options.shown]
    return program if shown else name

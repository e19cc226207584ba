"""What `create` and `run` share: their options, and a CreateRequest from them."""

from __future__ import annotations

import os
import sys

from casemate.cli.main import Globals, is_rootless
from casemate.cli.options import FLAG, VALUE, Option, Parsed
from casemate.errors import UsageError
from casemate.host.console import send_console
from casemate.oci.spec import load_spec
from casemate.runtime.request import CreateRequest

OPTIONS = [
    Option("bundle b", VALUE, "the bundle's directory (default: here)", "DIR"),
    Option("pid-file", VALUE, "write the first process's pid to this file", "FILE"),
    Option("console-socket", VALUE, "the Unix socket that takes the terminal's master", "PATH"),
    Option("preserve-fds", VALUE, "pass this many descriptors, from 3 on, to the program", "N"),
    Option("no-pivot", FLAG, "move the root instead of pivot_root (a root on a ramdisk)"),
    Option("no-new-keyring", FLAG, "keep the caller's session keyring"),
    Option("isolation", VALUE, "the wall; over the annotation and the configuration", "NAME"),
    Option("no-subreaper", FLAG, "accepted for runc's sake; no process of ours stays"),
]


def _load(path: str) -> dict[str, object]:
    try:
        return load_spec(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; a bundle has one (`casemate spec` writes it), a command needs none: casemate do -- COMMAND") from None


def request_from(parsed: Parsed) -> CreateRequest:
    """The request that the options and the bundle's config.json make. Raises SpecError, UsageError."""
    bundle = os.path.abspath(parsed.value("bundle", "."))
    spec = _load(os.path.join(bundle, "config.json"))
    _print_warnings()
    request = CreateRequest(parsed.arguments[0], dict(spec), bundle, Globals.root)
    request.isolation = parsed.value("isolation") or Globals.isolation
    request.strace = Globals.strace
    request.no_pivot = parsed.flag("no-pivot")
    request.no_new_keyring = parsed.flag("no-new-keyring")
    request.systemd_cgroup = Globals.systemd_cgroup
    request.rootless = is_rootless()
    request.preserve_fds = parsed.integer("preserve-fds")
    if request.preserve_fds < 0:
        raise UsageError("--preserve-fds: expected 0 or more")
    _pass_listening(request)
    if parsed.value("console-socket"):
        path = parsed.value("console-socket")
        request.console = lambda fd: send_console(path, fd)
    return request


def _pass_listening(request: CreateRequest) -> None:
    """Socket activation (sd_listen_fds(3)): sockets that were passed to this very process are the program's."""
    count = os.environ.get("LISTEN_FDS", "")
    process = request.spec.get("process")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or not isinstance(process, dict):
        return
    request.preserve_fds += int(count)
    # The program is process 1, or believes so: runc, too, gives this number.
    request.spec["process"] = {**process, "env": [*(process.get("env") or []), f"LISTEN_FDS={count}", "LISTEN_PID=1"]}


def has_terminal(spec: dict[str, object]) -> bool:
    """Whether the program gets a terminal."""
    process = spec.get("process")
    return isinstance(process, dict) and bool(process.get("terminal"))


def _print_warnings() -> None:
    from casemate.oci import spec

    for warning in getattr(spec, "spec_warnings", ()):
        print(f"casemate: warning: {warning}", file=sys.stderr)

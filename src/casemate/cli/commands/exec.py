"""`casemate exec ID COMMAND`."""

from __future__ import annotations

import os

from casemate.cli.foreground import Foreground
from casemate.cli.options import FLAG, LIST, VALUE, Option, Parsed
from casemate.cli.verb import open_container, read
from casemate.errors import UsageError
from casemate.host.console import send_console
from casemate.oci.spec import check_process, load_json
from casemate.runtime.exec import ExecRequest, exec_process
from casemate.runtime.pid_file import write_pid_file

HELP = "Runs a further process in a running container."
OPTIONS = [
    Option("process p", VALUE, "a file with the OCI process object", "FILE"),
    Option("cwd", VALUE, "the working directory", "DIR"),
    Option("env e", LIST, "set an environment variable", "KEY=VALUE"),
    Option("user u", VALUE, "user and group, by number", "UID[:GID]"),
    Option("additional-gids g", LIST, "further groups", "GID"),
    Option("cap c", LIST, "add a capability", "CAP_X"),
    Option("tty t", FLAG, "give it a terminal"),
    Option("detach d", FLAG, "return once it runs"),
    Option("pid-file", VALUE, "write its pid to this file", "FILE"),
    Option("console-socket", VALUE, "the Unix socket that takes the terminal's master", "PATH"),
    Option("process-label", VALUE, "SELinux label", "LABEL"),
    Option("apparmor", VALUE, "AppArmor profile", "NAME"),
    Option("no-new-privs", FLAG, "set no_new_privs"),
    Option("preserve-fds", VALUE, "pass this many descriptors, from 3 on", "N"),
    Option("cgroup", LIST, "accepted only where it is the container's own cgroup", "PATH"),
    Option("ignore-paused", FLAG, "also in a paused container, where it starts to run at resume"),
    Option("no-subreaper", FLAG, "accepted for runc's sake; no process of ours stays"),
]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="exec [options] ID COMMAND [ARGUMENT...]", help=HELP, least=1, most=1 << 20, command=True)
    if parsed is None:
        return 0
    with open_container(parsed.arguments[0]) as container:
        request = ExecRequest(_process(parsed, container.spec()))
        terminal = bool(request.process.get("terminal"))
        detach = parsed.flag("detach")
        socket_path = parsed.value("console-socket")
        if detach and terminal and not socket_path:
            raise UsageError("--detach with a terminal needs --console-socket")
        foreground = Foreground()
        request.console = (lambda fd: send_console(socket_path, fd)) if socket_path else foreground.take_master
        request.preserve_fds = parsed.integer("preserve-fds")
        request.ignore_paused = parsed.flag("ignore-paused")
        pid = exec_process(container, request)
        if parsed.value("pid-file"):
            write_pid_file(parsed.value("pid-file"), pid)
    return 0 if detach else foreground.wait(pid).shell_code


def _process(parsed: Parsed, spec: dict[str, object]) -> dict[str, object]:
    if parsed.value("process"):
        return _process_file(parsed.value("process"))
    if len(parsed.arguments) < 2:
        raise UsageError("usage: casemate exec [options] ID COMMAND [ARGUMENT...]")
    base = spec.get("process")
    process: dict[str, object] = dict(base) if isinstance(base, dict) else {}
    process["args"] = parsed.arguments[1:]
    process["terminal"] = parsed.flag("tty")
    process.pop("consoleSize", None)
    if parsed.given("cwd"):
        process["cwd"] = parsed.value("cwd")
    process["env"] = [*(process.get("env") or []), *parsed.list("env")]  # type: ignore[misc]
    if parsed.flag("no-new-privs"):
        process["noNewPrivileges"] = True
    for option, key in (("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if parsed.given(option):
            process[key] = parsed.value(option)
    _set_user(process, parsed)
    _add_capabilities(process, parsed.list("cap"))
    return dict(check_process(process, "command line"))


def _process_file(path: str) -> dict[str, object]:
    return dict(check_process(load_json(path), os.path.basename(path)))


def _set_user(process: dict[str, object], parsed: Parsed) -> None:
    user = process.get("user")
    new: dict[str, object] = dict(user) if isinstance(user, dict) else {"uid": 0, "gid": 0}
    if parsed.given("user"):
        uid, _, gid = parsed.value("user").partition(":")
        if not uid.isdecimal() or (gid and not gid.isdecimal()):
            raise UsageError(f"--user: expected UID or UID:GID in numbers, got {parsed.value('user')!r}")
        new = {"uid": int(uid), "gid": int(gid) if gid else 0}
    for gid in parsed.list("additional-gids"):
        if not gid.isdecimal():
            raise UsageError(f"--additional-gids: expected a number, got {gid!r}")
        groups = new.setdefault("additionalGids", [])
        assert isinstance(groups, list)
        groups.append(int(gid))
    process["user"] = new


def _add_capabilities(process: dict[str, object], names: list[str]) -> None:
    if not names:
        return
    given = process.get("capabilities")
    sets: dict[str, list[str]] = {key: list(value) for key, value in given.items()} if isinstance(given, dict) else {}
    for key in ("bounding", "effective", "permitted"):
        sets[key] = [*sets.get(key, []), *(name for name in names if name not in sets.get(key, []))]
    process["capabilities"] = sets

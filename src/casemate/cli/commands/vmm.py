"""`casemate vmm [options]`: our monitor, with Firecracker's options and API, in a jail."""

from __future__ import annotations

import os
import sys

from casemate.cli.options import FLAG, LIST, VALUE, Option, Parsed
from casemate.cli.verb import read
from casemate.errors import UsageError
from casemate.isolation.engine_process import engine_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.vmm_jail import Jail

HELP = (
    "Runs a virtual machine on KVM, with Firecracker's options and API, in a jail: a user of its own without capabilities, an empty root, namespaces. "
    "Files that the options and the configuration name are shown in the jail; what later requests name is looked for there (--bind)."
)
_MONITOR = [
    Option("api-sock", VALUE, "the socket of its API; in a jail, a link to it (default there: ROOT/run/firecracker.socket)", "PATH"),
    Option("no-api", FLAG, "no API"),
    Option("config-file", VALUE, "configure and start the machine as this file says", "FILE"),
    Option("load-snapshot", VALUE, "go on with the snapshot that this file names, as the body of /snapshot/load", "FILE"),
    Option("id", VALUE, "its name, and the jail's", "ID"),
    Option("metadata", VALUE, "what MMDS answers, at first", "FILE"),
    Option("boot-timer", FLAG, "log how long the guest's boot takes"),
    Option("level", VALUE, "of the log", "LEVEL"),
    Option("log-path", VALUE, "of the log: a file or FIFO", "PATH"),
    Option("module", VALUE, "log only this module", "MODULE"),
    Option("show-level", FLAG, "with the level in each line"),
    Option("show-log-origin", FLAG, "with the place in the source"),
    Option("metrics-path", VALUE, "of the metrics: a file or FIFO", "PATH"),
    Option("no-seccomp", FLAG, "without filters of system calls"),
    Option("seccomp-filter", VALUE, "filters in place of ours", "FILE"),
    Option("http-api-max-payload-size", VALUE, "of a request", "BYTES"),
    Option("mmds-size-limit", VALUE, "of the metadata", "BYTES"),
]
_JAIL = [
    Option("bind", LIST, "show a file or folder of the host, read-only", "HOST=JAIL"),
    Option("bind-rw", LIST, "the same, writable", "HOST=JAIL"),
    Option("uid", VALUE, "the jail's user (default: one of its own)", "UID"),
    Option("gid", VALUE, "and group", "GID"),
    Option("chroot-base-dir", VALUE, "where jails are (default /srv/jailer)", "DIR"),
    Option("netns", VALUE, "the network namespace", "PATH"),
    Option("cgroup", LIST, "a cgroup's file and what to write", "FILE=VALUE"),
    Option("cgroup-version", VALUE, "1 (default) or 2", "VERSION"),
    Option("parent-cgroup", VALUE, "the cgroup above", "NAME"),
    Option("resource-limit", LIST, "fsize or no-file", "NAME=VALUE"),
    Option("daemonize", FLAG, "leave the terminal"),
]
_PASSED = ("netns", "cgroup", "cgroup-version", "parent-cgroup", "resource-limit", "daemonize")
OPTIONS = [*_MONITOR, Option("no-jail", FLAG, "without the jail, as Firecracker itself: filters of system calls are left"), *_JAIL]


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="vmm [options]", help=HELP, least=0, most=0)
    if parsed is None:
        return 0
    words = command(parsed)
    engine = engine_path()
    os.execv(engine, [engine, *words])


def command(parsed: Parsed) -> list[str]:
    """The engine's arguments. Raises UsageError, HostError."""
    named = [option.names[0] for option in _JAIL if parsed.given(option.names[0])]
    if parsed.flag("no-jail") or os.geteuid() != 0:
        if named:
            raise UsageError(f"vmm: --{named[0]} needs the jail, and that needs root")
        if not parsed.flag("no-jail"):
            print("casemate: without root's privileges there is no jail: only filters of system calls are around the monitor", file=sys.stderr)
        return ["vmm", *_words(parsed, _MONITOR)]
    return _jailed(parsed)


def _jailed(parsed: Parsed) -> list[str]:
    from casemate.hypervisor.user import own_user
    from casemate.hypervisor.vmm_jail import BASE, Jail

    if parsed.given("uid") != parsed.given("gid"):
        raise UsageError("vmm: --uid and --gid go together")
    user = [parsed.integer("uid"), parsed.integer("gid")] if parsed.given("uid") else own_user(None)
    base = os.path.abspath(parsed.value("chroot-base-dir", BASE))
    jail = Jail(base, _name(parsed), user)
    try:
        monitor = _words(parsed, _MONITOR, jail)
        jail.link()
    except BaseException:
        jail.forget()
        raise
    own = ["--id", jail.name, "--uid", str(user[0]), "--gid", str(user[1]), "--chroot-base-dir", base]
    own += _words(parsed, [option for option in _JAIL if option.names[0] in ("bind", "bind-rw", *_PASSED)])
    print(f"casemate: in a jail: root {jail.root}, user {user[0]} (--no-jail: without)", file=sys.stderr)
    return ["jailer", *own, *jail.binds, "--", *monitor]


def _name(parsed: Parsed) -> str:
    name = parsed.value("id")
    if parsed.given("id") and not (0 < len(name) <= 64 and all(part.isalnum() and part.isascii() for part in name.split("-") if part)):
        raise UsageError(f"vmm: --id {name!r}: expected 1 to 64 letters, digits and '-'")
    return name


def _words(parsed: Parsed, options: list[Option], jail: Jail | None = None) -> list[str]:
    """The options that were given, with the jail's paths where there is one. The jailer itself passes the name on."""
    places = {} if jail is None else {
        "api-sock": jail.socket, "config-file": jail.configuration, "load-snapshot": jail.loading, "metadata": jail.show, "seccomp-filter": jail.show,
        "log-path": jail.output, "metrics-path": jail.output,
    }  # fmt: skip
    words = []
    for option in options:
        name = option.names[0]
        if jail is not None and name == "id":
            continue
        if option.kind == FLAG:
            words += [f"--{name}"] if parsed.flag(name) else []
        else:
            values = parsed.list(name) if option.kind == LIST else parsed.list(name)[-1:]
            words += [f"--{name}={places[name](value) if name in places else value}" for value in values]
    return words

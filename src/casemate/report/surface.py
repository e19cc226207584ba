"""Which system calls of the host's kernel a program can reach: read from its filters or, without them, from a profile."""

from __future__ import annotations

from casemate.errors import CasemateError
from casemate.report.bpf import ARCH_I386, ARCH_X86_64, X32_BIT, Instruction, answers
from casemate.report.names import NAMES

_ACTION = 0xFFFF0000
_ALLOW, _LOG, _TRACE, _NOTIFY, _ERRNO, _TRAP, _KILL_PROCESS, _KILL_THREAD = (
    0x7FFF0000, 0x7FFC0000, 0x7FF00000, 0x7FC00000, 0x00050000, 0x00030000, 0x80000000, 0,
)  # fmt: skip
_REACH_THE_KERNEL = (_ALLOW, _LOG)
_ACTIONS = {_TRACE: "traced", _NOTIFY: "notify", _TRAP: "SIGSYS", _KILL_PROCESS: "killed", _KILL_THREAD: "killed"}
_ERRNOS = {1: "EPERM", 13: "EACCES", 22: "EINVAL", 38: "ENOSYS"}
_I386_CALLS = 470


class Surface:
    """allowed: whatever the arguments.   conditional: with some arguments.   refused: name -> what the caller gets."""

    def __init__(self, *, is_native: bool = True) -> None:
        self.is_native = is_native
        self.allowed: list[str] = []
        self.conditional: list[str] = []
        self.refused: dict[str, str] = {}

    @property
    def reachable(self) -> list[str]:
        """All that reach the kernel with some arguments, by number."""
        names = {*self.allowed, *self.conditional}
        return [name for name in NAMES.values() if name in names] if self.is_native else sorted(names)


def from_filters(filters: list[list[Instruction]], arch: int = ARCH_X86_64, bit: int = 0) -> Surface:
    """The surface that is left by all of the filters together. `bit` is added to each number (X32_BIT)."""
    surface = Surface(is_native=arch == ARCH_X86_64)
    for number in NAMES if arch == ARCH_X86_64 else range(_I386_CALLS):
        name = NAMES[number] if arch == ARCH_X86_64 else f"{number}"
        possible = [answers(program, number | bit, arch) for program in filters]
        passing = [{value & _ACTION in _REACH_THE_KERNEL for value in values} for values in possible]
        if all(passed == {True} for passed in passing):
            surface.allowed.append(name)
        elif all(True in passed for passed in passing):
            surface.conditional.append(name)
        else:
            surface.refused[name] = _strictest(possible)
    return surface


def other_conventions(filters: list[list[Instruction]]) -> dict[str, str]:
    """What a caller gets who uses the two other ways into an x86-64 kernel; "" if some call passes."""
    found = {}
    for name, arch, bit in (("x32", ARCH_X86_64, X32_BIT), ("i386", ARCH_I386, 0)):
        surface = from_filters(filters, arch, bit)
        found[name] = "" if surface.reachable else ", ".join(sorted(set(surface.refused.values())))
    return found


def from_profile(profile: dict[str, object], capabilities: frozenset[str] = frozenset()) -> Surface:
    """The surface of a seccomp profile: OCI's, or one of docker's and podman's files, whose rules depend on capabilities. Raises CasemateError."""
    default = _profile_answer(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    passed: set[str] = set()
    conditional: set[str] = set()
    refused: dict[str, str] = {}
    for rule in _list(profile.get("syscalls")):
        if not isinstance(rule, dict) or not _applies(rule, capabilities):
            continue
        result = _profile_answer(rule.get("action"), rule.get("errnoRet"))
        names = [str(name) for name in _list(rule.get("names"))]
        if result and rule.get("args") and not default:
            conditional.update(names)
        elif result:
            refused |= dict.fromkeys(names, result)
        elif rule.get("args"):
            conditional.update(names)
        else:
            passed.update(names)
    surface = Surface()
    newest = max((number for number, name in NAMES.items() if name in passed or name in conditional), default=0)
    for number, name in NAMES.items():
        if name in passed and name not in refused:
            surface.allowed.append(name)
        elif name in passed or name in conditional:
            surface.conditional.append(name)
        elif refused.get(name, default):
            # Runtimes answer ENOSYS to what is newer than a profile, so that libraries fall back to older calls.
            is_newer = number > newest and default.startswith("E")
            surface.refused[name] = refused.get(name, "ENOSYS" if is_newer else default)
        else:
            surface.allowed.append(name)
    return surface


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _applies(rule: dict[str, object], capabilities: frozenset[str]) -> bool:
    """`includes` and `excludes` of docker's profiles."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        return True
    if includes.get("arches") and "amd64" not in includes["arches"]:
        return False
    if not capabilities.issuperset(includes.get("caps") or ()):
        return False
    return "amd64" not in (excludes.get("arches") or ()) and not capabilities.intersection(excludes.get("caps") or ())


def _profile_answer(action: object, errno: object) -> str:
    """What the caller gets; empty if the call is made."""
    if action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        return ""
    if action == "SCMP_ACT_ERRNO":
        number = errno if isinstance(errno, int) else 1
        return _ERRNOS.get(number, f"errno {number}")
    if not isinstance(action, str):
        raise CasemateError("a seccomp profile without an action")
    return {"SCMP_ACT_TRACE": "traced", "SCMP_ACT_NOTIFY": "notify", "SCMP_ACT_TRAP": "SIGSYS"}.get(action, "killed")


def _strictest(possible: list[frozenset[int]]) -> str:
    """Of several filters the kernel obeys the lowest action, killing the process being the lowest of all."""
    value = min((value for values in possible for value in values), key=lambda value: (value & _ACTION) ^ 0x80000000)
    action = value & _ACTION
    if action == _ERRNO:
        return _ERRNOS.get(value & 0xFFFF, f"errno {value & 0xFFFF}")
    return _ACTIONS.get(action, "killed")

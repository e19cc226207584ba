"""Device rules: the eBPF program and v1's lists both do what the ordered rules say."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import CgroupError
from casemate.host.cgroup import devices, devices_v1
from casemate.host.cgroup.device_program import assemble
from casemate.host.cgroup.devices import ANY, Rule

_BITS = {"m": 1, "r": 2, "w": 4}


def interpret(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Runs the instructions that device programs consist of, as the kernel's instruction set document defines them."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    registers = [0, 0, 0, 0, 0, 0]
    code = list(struct.iter_unpack("=BBhi", program))
    position = 0
    while True:
        opcode, pair, offset, immediate = code[position]
        target, source = pair & 15, pair >> 4
        position += 1
        match opcode:
            case 0x61:
                assert source == 1, "only the context is readable"
                registers[target] = struct.unpack_from("=I", context, offset)[0]
            case 0x54:
                registers[target] &= immediate & 0xFFFFFFFF
            case 0x74:
                registers[target] >>= immediate
            case 0xB4:
                registers[target] = immediate & 0xFFFFFFFF
            case 0xBC:
                registers[target] = registers[source]
            case 0x15:
                position += offset if registers[target] == immediate else 0
            case 0x55:
                position += offset if registers[target] != immediate else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"unknown opcode {opcode:#x}")
        assert offset >= 0, "no loops"


def reference(rules: list[Rule], kind: str, access: str, major: int, minor: int) -> bool:
    """Each letter is what the last rule that names it says; denied if none does."""
    state = dict.fromkeys("rwm", False)
    for rule in rules:
        if rule.kind in ("a", kind) and rule.major in (ANY, major) and rule.minor in (ANY, minor):
            state.update(dict.fromkeys(rule.access, rule.allow))
    return all(state[letter] for letter in access)


accesses = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
numbers = st.sampled_from([ANY, 0, 1, 3, 5, 136, 0x7FFFFFFF])
rules = st.lists(st.builds(Rule, st.booleans(), st.sampled_from("abc"), numbers, numbers, accesses), max_size=8)
asked = st.tuples(st.sampled_from("bc"), accesses, st.sampled_from([0, 1, 3, 5, 7, 136]), st.sampled_from([0, 1, 3, 5, 9]))


def ask(program: bytes, question: tuple[str, str, int, int]) -> bool:
    kind, access, major, minor = question
    return bool(interpret(program, {"b": 1, "c": 2}[kind], sum(_BITS[letter] for letter in access), major, minor))


@given(rules, asked)
def test_program_follows_the_ordered_rules(rules: list[Rule], question: tuple[str, str, int, int]) -> None:
    assert ask(assemble(rules), question) == reference(rules, *question)


@pytest.mark.parametrize(
    ("question", "allowed"),
    [(("c", "rw", 1, 3), True), (("c", "rw", 136, 7), True), (("c", "m", 10, 229), True), (("c", "r", 10, 229), False),
     (("b", "r", 8, 0), False), (("b", "m", 8, 0), True), (("c", "rw", 10, 200), False)],
)  # fmt: skip
def test_default_rules(question: tuple[str, str, int, int], allowed: bool) -> None:
    assert ask(assemble(devices.rules_of(None)), question) is allowed


def test_own_rules_come_first_and_cannot_take_the_default_devices() -> None:
    rules = devices.rules_of([{"allow": True, "type": "b", "major": 8, "access": "r"}, {"allow": False, "type": "c", "major": 1}])
    program = assemble(rules)
    assert ask(program, ("b", "r", 8, 5))
    assert not ask(program, ("b", "w", 8, 5))
    assert ask(program, ("c", "rw", 1, 3))


def test_allow_all_ends_the_program() -> None:
    rules = [Rule(False, "c", 1, 1, "r"), Rule(True, "a", ANY, ANY, "rwm")]
    assert len(assemble(rules)) == 8 * 8


@pytest.mark.parametrize(
    "entry",
    [{}, {"allow": "yes"}, {"allow": True, "type": "x"}, {"allow": True, "access": "rx"}, {"allow": True, "major": 1 << 40},
     {"allow": True, "minor": -2}, {"allow": True, "access": 7}],
)  # fmt: skip
def test_malformed_rules_are_refused(entry: dict[str, object]) -> None:
    with pytest.raises(CgroupError, match=r"devices\[0\]"):
        devices.rules_of([entry])


def run_v1(writes: list[tuple[str, str]], default: bool, exceptions: dict[tuple[str, str], set[str]]) -> None:
    """Plays writes as security/device_cgroup.c does, on exceptions by `kind major:minor`."""
    for file, text in writes:
        if text == "a":
            default = file == "devices.allow"
            exceptions.clear()
            continue
        kind, place, access = text.split()
        if (file == "devices.allow") != default:
            exceptions.setdefault((kind, place), set()).update(access)
        else:
            exceptions[kind, place] -= set(access)


def test_v1_new_cgroup_denies_all_and_allows_each() -> None:
    writes = devices_v1.lower(devices.rules_of(None), "a *:* rwm\n")
    assert writes[0] == ("devices.deny", "a")
    assert ("devices.allow", "c 136:* rwm") in writes
    assert len(writes) == 12


def test_v1_update_writes_differences_only() -> None:
    current = "c *:* m\nc 1:3 rwm\nb 8:0 r\n"
    rules = [Rule(True, "c", ANY, ANY, "m"), Rule(True, "c", 1, 3, "r"), Rule(True, "c", 1, 5, "rw")]
    assert devices_v1.lower(rules, current) == [
        ("devices.allow", "c 1:5 rw"), ("devices.deny", "c 1:3 wm"), ("devices.deny", "b 8:0 r")
    ]  # fmt: skip


@given(rules, rules)
def test_v1_update_reaches_the_target(first: list[Rule], second: list[Rule]) -> None:
    """From any state that rules made, the writes for others lead where they would from a new cgroup."""
    try:
        before = devices_v1.lower(first, "a *:* rwm")
        fresh = devices_v1.lower(second, "a *:* rwm")
    except CgroupError:
        return  # a hole in a wider rule, which v1 cannot have
    state: dict[tuple[str, str], set[str]] = {}
    run_v1(before, True, state)
    is_open = before[0] == ("devices.allow", "a")
    text = "a *:* rwm" if is_open else "\n".join(f"{k} {p} {''.join(sorted(a))}" for (k, p), a in state.items() if a)
    run_v1(devices_v1.lower(second, text), is_open, state)
    target: dict[tuple[str, str], set[str]] = {}
    run_v1(fresh, True, target)
    assert {key: value for key, value in state.items() if value} == target


def test_v1_refuses_a_hole_in_a_wider_rule() -> None:
    with pytest.raises(CgroupError, match="exception from the wider rule b 8:\\* rwm"):
        devices_v1.lower([Rule(True, "b", 8, ANY, "rwm"), Rule(False, "b", 8, 1, "w")], "a *:* rwm")

"""The interpreter of seccomp filters."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.report import bpf

LOAD, EQUAL, GREATER, AND, RETURN, RETURN_A = 0x20, 0x15, 0x25, 0x54, 0x06, 0x16
ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
ARGUMENT_1 = 24
# Only x86-64's; call 7 if bit 3 of its second argument is set, calls above 100 not at all.
FILTER = [
    (LOAD, 0, 0, 4),
    (EQUAL, 1, 0, bpf.ARCH_X86_64),
    (RETURN, 0, 0, KILL),
    (LOAD, 0, 0, 0),
    (GREATER, 5, 0, 100),
    (EQUAL, 0, 3, 7),
    (LOAD, 0, 0, ARGUMENT_1),
    (AND, 0, 0, 8),
    (EQUAL, 1, 0, 0),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, EPERM),
]


@pytest.mark.parametrize(
    ("number", "arguments", "result"), [(7, (0, 8), ALLOW), (7, (0, 1 << 35), EPERM), (7, (8,), EPERM), (6, (), ALLOW), (101, (0, 8), EPERM)]
)
def test_answer_depends_on_number_and_arguments(number: int, arguments: tuple[int, ...], result: int) -> None:
    assert bpf.answer(FILTER, number, arguments=arguments) == result


@pytest.mark.parametrize(("number", "results"), [(7, {ALLOW, EPERM}), (6, {ALLOW}), (101, {EPERM})])
def test_answers_are_those_of_all_arguments(number: int, results: set[int]) -> None:
    assert bpf.answers(FILTER, number) == results


def test_other_architecture() -> None:
    assert bpf.answers(FILTER, 6, bpf.ARCH_I386) == {KILL}


def test_decode() -> None:
    assert bpf.decode(b"".join(struct.pack("=HBBI", *instruction) for instruction in FILTER)) == FILTER


# A = 12, X = 5, then the instruction, and A is returned.
@pytest.mark.parametrize(
    ("code", "k", "result"),
    [
        (0x04, 3, 15), (0x0C, 0, 17), (0x14, 20, 0xFFFFFFF8), (0x24, 0x80000000, 0), (0x34, 5, 2), (0x3C, 0, 2), (0x44, 3, 15), (0x54, 8, 8), (0xA4, 5, 9),
        (0x64, 4, 192), (0x64, 40, 0), (0x74, 2, 3), (0x84, 0, 0xFFFFFFF4), (0x87, 0, 5), (0x07, 0, 12), (0x80, 0, 64), (0x60, 2, 0), (0x00, 99, 99),
    ],
)  # fmt: skip
def test_calculation(code: int, k: int, result: int) -> None:
    assert bpf.answer([(0x00, 0, 0, 12), (0x01, 0, 0, 5), (code, 0, 0, k), (RETURN_A, 0, 0, 0)], 0) == result


def test_scratch_memory() -> None:
    assert bpf.answer([(0x00, 0, 0, 12), (0x02, 0, 0, 3), (0x00, 0, 0, 0), (0x61, 0, 0, 3), (0x87, 0, 0, 0), (RETURN_A, 0, 0, 0)], 0) == 12


@pytest.mark.parametrize("program", [[], [(LOAD, 0, 0, 64)], [(LOAD, 0, 0, 2)], [(EQUAL, 9, 9, 0)], [(0x28, 0, 0, 0)], [(LOAD, 0, 0, 16), (RETURN_A, 0, 0, 0)]])
def test_what_is_no_filter(program: list[bpf.Instruction]) -> None:
    with pytest.raises(ValueError):
        bpf.answers(program, 0)


@given(st.integers(0, 511), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_every_answer_is_among_the_answers(number: int, arguments: list[int]) -> None:
    assert bpf.answer(FILTER, number, arguments=tuple(arguments)) in bpf.answers(FILTER, number)

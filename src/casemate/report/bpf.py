"""Classic BPF as seccomp filters use it: what a filter answers to a system call, for given arguments or for all of them.

Where an argument is not known, both ways of a jump that looks at it are followed. So `answers` never leaves out an answer that some arguments get; it may
name one that none gets, where two conditions exclude each other.
"""

from __future__ import annotations

import struct

Instruction = tuple[int, int, int, int]  # code, jt, jf, k (struct sock_filter)

ARCH_X86_64, ARCH_I386, X32_BIT = 0xC000003E, 0x40000003, 0x40000000
_DATA_SIZE = 64  # struct seccomp_data: nr, arch, instruction pointer, six arguments
_MAX_STATES = 1 << 20
_WORD = 0xFFFFFFFF
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_IMM, _ABS, _MEM, _LEN = 0x00, 0x20, 0x60, 0x80
_ADD, _SUB, _MUL, _DIV, _OR, _AND, _LSH, _RSH, _NEG, _XOR = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xA0
_JA, _JEQ, _JGT, _JGE, _JSET = 0x00, 0x10, 0x20, 0x30, 0x40

# pc, A, X, scratch memory; None is a value that is not known.
State = tuple[int, int | None, int | None, tuple[int | None, ...]]


def decode(data: bytes) -> list[Instruction]:
    """The instructions of an array of struct sock_filter."""
    return [(code, jt, jf, k) for code, jt, jf, k in struct.iter_unpack("=HBBI", data)]


def answer(program: list[Instruction], number: int, arch: int = ARCH_X86_64, arguments: tuple[int, ...] = ()) -> int:
    """What the filter returns to one call; arguments that are not given are 0. Raises ValueError for what is no filter."""
    (result,) = _run(program, {0: number & _WORD, 4: arch, 8: 0, 12: 0, **_argument_words(arguments)})
    return result


def answers(program: list[Instruction], number: int, arch: int = ARCH_X86_64) -> frozenset[int]:
    """All that the filter may return to the call of this number, whatever the arguments. Raises ValueError for what is no filter."""
    return _run(program, {0: number & _WORD, 4: arch})


def _argument_words(arguments: tuple[int, ...]) -> dict[int, int]:
    words = {}
    for index, value in enumerate((*arguments, *[0] * (6 - len(arguments)))):
        words[16 + 8 * index] = value & _WORD
        words[20 + 8 * index] = value >> 32 & _WORD
    return words


def _run(program: list[Instruction], known: dict[int, int]) -> frozenset[int]:
    """Follows all paths. known: the words of struct seccomp_data by offset; the others may be anything."""
    waiting: list[State] = [(0, 0, 0, (0,) * 16)]
    seen = set(waiting)
    results = set()
    while waiting:
        pc, a, x, memory = waiting.pop()
        if pc >= len(program):
            raise ValueError(f"the filter goes on after its end, to {pc}")
        code, jt, jf, k = program[pc]
        kind = code & 7
        following: list[State]
        if kind == _RET:
            results.add(_returned(code, k, a))
            continue
        if kind == _JMP:
            following = [(target, value, x, memory) for target, value in _jump(pc, (code, jt, jf, k), a, x)]
        elif kind in (_LD, _LDX):
            value = _load(code, k, known, memory)
            following = [(pc + 1, value, x, memory) if kind == _LD else (pc + 1, a, value, memory)]
        elif kind in (_ST, _STX):
            following = [(pc + 1, a, x, (*memory[:k], a if kind == _ST else x, *memory[k + 1 :]))]
        elif kind == _ALU:
            following = [(pc + 1, _calculate(code & 0xF0, a, x if code & 8 else k), x, memory)]
        else:
            following = [(pc + 1, x, x, memory) if code & 0x80 else (pc + 1, a, a, memory)]
        for state in following:
            if state not in seen:
                seen.add(state)
                waiting.append(state)
        if len(seen) > _MAX_STATES:
            raise ValueError("the filter has too many paths")
    return frozenset(results)


def _returned(code: int, k: int, a: int | None) -> int:
    if not code & 0x18:
        return k
    if a is None:
        raise ValueError("the filter returns an argument")
    return a


def _load(code: int, k: int, known: dict[int, int], memory: tuple[int | None, ...]) -> int | None:
    mode = code & 0xE0
    if mode == _IMM:
        return k
    if mode == _MEM and k < len(memory):
        return memory[k]
    if mode == _LEN:
        return _DATA_SIZE
    if mode == _ABS and k < _DATA_SIZE and k % 4 == 0:
        return known.get(k)
    raise ValueError(f"instruction {code:#x} {k:#x} is none of a seccomp filter")


def _calculate(operation: int, a: int | None, operand: int | None) -> int | None:
    if a is None or (operand is None and operation != _NEG):
        return None
    b = operand or 0
    if operation == _DIV:
        return a // b if b else 0
    if operation in (_LSH, _RSH) and b > 31:
        return 0
    return {
        _ADD: lambda: a + b, _SUB: lambda: a - b, _MUL: lambda: a * b, _OR: lambda: a | b, _AND: lambda: a & b, _XOR: lambda: a ^ b,
        _LSH: lambda: a << b, _RSH: lambda: a >> b, _NEG: lambda: -a,
    }[operation]() & _WORD  # fmt: skip


def _jump(pc: int, instruction: Instruction, a: int | None, x: int | None) -> list[tuple[int, int | None]]:
    """Where it may go, and what A is known to be there."""
    code, jt, jf, k = instruction
    test = code & 0xF0
    if test == _JA:
        return [(pc + 1 + k, a)]
    operand = x if code & 8 else k
    if a is None or operand is None:
        return [(pc + 1 + jt, operand if test == _JEQ else a), (pc + 1 + jf, a)]
    holds = {_JEQ: a == operand, _JGT: a > operand, _JGE: a >= operand, _JSET: bool(a & operand)}[test]
    return [(pc + 1 + (jt if holds else jf), a)]

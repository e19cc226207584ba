"""Device rules as an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE): what v2 has in place of the devices controller.

The program sees one access: bits for read, write and mknod, the kind, major and minor. Rules are tried from the last to the first and each
access bit is decided by the first of them that names it, which is the same as letting later rules override earlier ones. A bit that no rule
names is denied. r0 result and scratch, r2 kind, r3 access bits not yet decided, r4 major, r5 minor.
"""

from __future__ import annotations

from struct import pack

from casemate.host.cgroup.devices import ANY, Rule

# Opcodes (kernel: Documentation/bpf/standardization/instruction-set.rst): class | size or operation | source.
_LOAD_WORD = 0x61  # LDX | W | MEM
_AND, _RIGHT_SHIFT, _MOVE = 0x54, 0x74, 0xB4  # ALU (32 bits), immediate
_COPY = 0xBC  # ALU (32 bits) MOV, register
_JUMP_EQUAL, _JUMP_NOT_EQUAL = 0x15, 0x55  # JMP, immediate
_EXIT = 0x95
# enum and struct bpf_cgroup_dev_ctx, linux/bpf.h
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_R0, _R1, _KIND, _LEFT, _MAJOR, _MINOR = range(6)


def assemble(rules: list[Rule]) -> bytes:
    """The program, 8 bytes an instruction. At most 9 instructions a rule, so 10,000 rules are far below the kernel's million."""
    program = [
        _instruction(_LOAD_WORD, _KIND, _R1, offset=0),
        _instruction(_COPY, _LEFT, _KIND),
        _instruction(_AND, _KIND, immediate=0xFFFF),
        _instruction(_RIGHT_SHIFT, _LEFT, immediate=16),
        _instruction(_LOAD_WORD, _MAJOR, _R1, offset=4),
        _instruction(_LOAD_WORD, _MINOR, _R1, offset=8),
    ]
    for rule in reversed(rules):
        if rule.is_all():
            return b"".join([*program, *_end(rule.allow)])  # rules before it decide nothing
        program += _rule(rule)
    return b"".join([*program, *_end(False)])


def _rule(rule: Rule) -> list[bytes]:
    decision = _decide(rule)
    conditions = []
    if rule.kind != "a":
        conditions.append((_KIND, _KINDS[rule.kind]))
    if rule.major != ANY:
        conditions.append((_MAJOR, rule.major))
    if rule.minor != ANY:
        conditions.append((_MINOR, rule.minor))
    # A condition that fails skips the conditions after it and the decision.
    return [
        *(
            _instruction(_JUMP_NOT_EQUAL, register, offset=len(conditions) - 1 - index + len(decision), immediate=value)
            for index, (register, value) in enumerate(conditions)
        ),
        *decision,
    ]


def _decide(rule: Rule) -> list[bytes]:
    bits = sum(_ACCESS[letter] for letter in rule.access)
    if rule.allow:
        return [
            _instruction(_AND, _LEFT, immediate=~bits & 7),
            _instruction(_JUMP_NOT_EQUAL, _LEFT, offset=2),
            *_end(True),
        ]
    return [
        _instruction(_COPY, _R0, _LEFT),
        _instruction(_AND, _R0, immediate=bits),
        _instruction(_JUMP_EQUAL, _R0, offset=2),
        *_end(False),
    ]


def _end(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE, _R0, immediate=int(allow)), _instruction(_EXIT)]


def _instruction(opcode: int, target: int = 0, source: int = 0, *, offset: int = 0, immediate: int = 0) -> bytes:
    """struct bpf_insn: opcode u8, registers u8 (target low), offset s16, immediate s32. Little endian: of this host."""
    return pack("=BBhi", opcode, source << 4 | target, offset, immediate)

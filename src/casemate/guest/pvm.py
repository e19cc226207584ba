"""A Linux kernel as it is has no business on a KVM without virtualisation in the processor: four things that it does stop such a machine. They are
changed in the image, found by what they look like, and nothing else is.

1. The self-test of int3 executes one. It becomes what its handler would have done: the word that rdi points to is one.
2. The way out of a system call by SYSRET. It becomes the way by IRET, which the kernel has for all that SYSRET cannot do.
3. SYSCALL of a program arrives as a page fault at the address in LSTAR. The handler of page faults looks for that first, takes the program's stack
   pointer out of the fault's frame, and goes to where LSTAR points.
4. FWAIT, before a process's floating-point state is dropped, for exceptions that nobody wants any more. It becomes nothing.

Found in Linux 6.1, for one processor and for many; another one may need other places, and is refused by name.
"""

from __future__ import annotations

import re
import struct

from casemate.errors import HostError

# Part of what a kernel is known by: to be raised with each change below.
RECIPE = "pvm 1"
_REMEDY = "build it from Linux 6.1"
_INT3_TEST = re.compile(rb"\x48\x8d\x7c\x24.\xcc\x90{4}\x83\x7c\x24.\x01", re.DOTALL)
# cmp %rcx,%r11; jne (to the way by IRET); shl $16,%rcx; sar $16,%rcx; cmp %rcx,%r11
_SYSRET = re.compile(rb"\x49\x39\xcb\x0f\x85(....)\x48\xc1\xe1\x10\x48\xc1\xf9\x10\x49\x39\xcb", re.DOTALL)
_ENTRY = re.compile(rb"\x0f\x01\xf8\x65?\x48\x89\x24\x25", re.DOTALL)  # swapgs; mov %rsp,%gs:…
# struct idt_data: vector 14, __KERNEL_CS, an interrupt gate; then the handler.
_GATE = re.compile(rb"\x0e\0\0\0\x10\0\0\0\0\x8e\0\0\0\0\0\0(.{8})", re.DOTALL)
_FWAIT = re.compile(rb"\x9b\x65?\x48\xc7\x05....\0{4}", re.DOTALL)  # fwait; movq $0,%gs:fpu_fpregs_owner_ctx
_WORD = 1 << 64


class _Image:
    def __init__(self, elf: bytes) -> None:
        self.bytes = bytearray(elf)
        (headers,) = struct.unpack_from("<Q", elf, 32)
        size, count = struct.unpack_from("<HH", elf, 54)
        rows = (struct.unpack_from("<IIQQQQQQ", elf, headers + number * size) for number in range(count))
        self._segments: list[tuple[int, int, int]] = [(offset, address, length) for kind, _, offset, address, _, length, _, _ in rows if kind == 1]

    def address(self, offset: int) -> int:
        return next(address + offset - start for start, address, length in self._segments if start <= offset < start + length)

    def only(self, what: str, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        found = list(pattern.finditer(self.bytes))
        if len(found) != 1:
            raise HostError(f"{what}: {len(found)} places of this kernel look like it", _REMEDY)
        return found[0]

    def put(self, offset: int, code: bytes) -> None:
        self.bytes[offset : offset + len(code)] = code


def patched(elf: bytes) -> bytes:
    """The kernel for such a KVM. Raises HostError."""
    image = _Image(elf)
    image.put(image.only("the self-test of int3", _INT3_TEST).start() + 5, bytes.fromhex("ff07909090"))  # incl (%rdi)
    sysret = image.only("the way out by SYSRET", _SYSRET)
    jump = sysret.start() + 3
    image.put(jump, b"\x90\xe9" + sysret.group(1))  # jne becomes jmp
    for found in list(_FWAIT.finditer(image.bytes)):
        image.put(found.start(), b"\x90")
    entries = [found.start() for found in _ENTRY.finditer(image.bytes, 0, sysret.start())]
    if not entries:
        raise HostError("the entry of system calls: no place of this kernel looks like it", _REMEDY)
    gate = image.only("the gate of page faults", _GATE)
    (handler,) = struct.unpack("<Q", gate.group(1))
    # What comes behind the jump is never executed any more, and nothing in its first 70 bytes is changed when the kernel suits itself to the processor.
    place = jump + 6
    image.put(place, _divert(image.address(place), image.address(entries[-1]), handler))
    image.put(gate.start(1), struct.pack("<Q", image.address(place)))
    return bytes(image.bytes)


def _divert(at: int, entry: int, handler: int) -> bytes:
    look = bytes.fromhex("50 0f20d0 483d") + struct.pack("<i", entry - _WORD)  # push %rax; mov %cr2,%rax; cmp $entry,%rax
    take = bytes.fromhex("58 488b642420 e9")  # pop %rax; mov 32(%rsp),%rsp; jmp entry
    look += bytes((0x75, len(take) + 4))  # jne past the next
    look += take + struct.pack("<i", entry - (at + len(look) + len(take) + 4))
    return look + b"\x58\xe9" + struct.pack("<i", handler - (at + len(look) + 6))  # pop %rax; jmp handler

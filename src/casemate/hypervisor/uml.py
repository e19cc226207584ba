"""User Mode Linux: a real Linux kernel as a process of the host. Needs no KVM; its programs' system calls cost some 14 us each."""

from __future__ import annotations

import os

from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor.base import Hypervisor, Machine
from casemate.isolation.base import Verdict

PROGRAM = "/usr/bin/linux.uml"
# Linux 6.1, arch/um/drivers/line.c: line_throttle() takes the line's descriptor out of epoll and line_unthrottle() does not put it back, so a line whose
# reader is 3968 bytes behind (n_tty.c) hears nothing any more. It never is.
_LINE_WINDOW = 2048


class Uml(Hypervisor):
    """The agent's stream is a serial line; the containers' files come by hostfs, which is part of that kernel."""

    name = "uml"
    merit = "a kernel as a process, which needs no KVM and boots sooner than an emulated machine"

    def probe(self) -> Verdict:
        if not os.access(PROGRAM, os.X_OK):
            return Verdict(False, f"there is no {PROGRAM}", "run `casemate kernel install uml` (Debian's package user-mode-linux)")
        return Verdict(True)

    def remark(self) -> str:
        return "machines boot at each start: nothing can save the state of a kernel that is a process"

    def kernel_to_install(self) -> str:
        return "" if os.access(PROGRAM, os.X_OK) else "uml"

    def machine(self, memory_mib: int) -> Machine:
        command = [
            PROGRAM,
            f"mem={memory_mib}M",
            "initrd=/guest/initramfs",
            f"rdinit=/{AGENT}",
            "con=null",
            "con0=null,fd:1",
            "ssl0=fd:{link},fd:{link}",
            "umid=guest",
            "quiet",
            "panic=-1",
            "casemate.link=ttyS0",
        ]
        machine = Machine(command, share="hostfs", files={"initramfs": initramfs("uml", [])})
        machine.link_window = _LINE_WINDOW
        return machine

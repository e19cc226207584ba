"""User Mode Linux: a real Linux kernel as a process of the host. Needs no KVM; its programs' system calls cost some 14 us each."""

from __future__ import annotations

import os

from casemate.errors import HostError
from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor import virtiofsd
from casemate.hypervisor.base import Hypervisor, Machine
from casemate.isolation.base import Verdict

PROGRAM = "/usr/bin/linux.uml"
_MODULES = "/usr/lib/uml/modules"
_NEEDED = ("fs/fuse/fuse", "fs/fuse/virtiofs")
_FOR_NETWORK = ("lib/crc-ccitt", "net/ipv6/ipv6")
_FOR_IMAGES = ("fs/erofs/erofs", "fs/overlayfs/overlay")
_VIRTIO_ID_FS = 26
_FILES_SOCKET = "/tmp/front.sock"
# Linux 6.1, arch/um/drivers/line.c: line_throttle() takes the line's descriptor out of epoll and line_unthrottle() does not put it back, so a line whose
# reader is 3968 bytes behind (n_tty.c) hears nothing any more. It never is.
_LINE_WINDOW = 2048


class Uml(Hypervisor):
    """The agent's stream is a serial line. The containers' files come by virtio-fs over vhost-user, not by the kernel's own hostfs: that kernel is the
    hypervisor, and would need the rights of everybody whose files it serves.
    """

    name = "uml"
    merit = "a kernel as a process, which needs no KVM and boots sooner than an emulated machine"

    def probe(self) -> Verdict:
        if not os.access(PROGRAM, os.X_OK):
            return Verdict(False, f"there is no {PROGRAM}", "run `casemate kernel install uml` (Debian's package user-mode-linux)")
        if not _modules():
            return Verdict(False, f"there is no virtiofs module below {_MODULES}", "install Debian's package user-mode-linux anew")
        return Verdict(True)

    def remark(self) -> str:
        return "machines boot at each start: nothing can save the state of a kernel that is a process"

    def kernel_to_install(self) -> str:
        return "" if os.access(PROGRAM, os.X_OK) else "uml"

    def machine(self, memory_mib: int, share: str = "", *, has_cards: bool = False, maps_image: bool = False) -> Machine:
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
        modules = _modules() + _modules(_FOR_IMAGES)
        archive = initramfs("umlnet", modules + _modules(_FOR_NETWORK)) if has_cards else initramfs("uml", modules)
        share = share or virtiofsd.way()
        machine = Machine(command, share="" if share == "none" else share, files={"initramfs": archive})
        machine.traces = True
        machine.link_window = _LINE_WINDOW
        if share == "virtiofs":
            machine.command.append(f"virtio_uml.device={_FILES_SOCKET}:{_VIRTIO_ID_FS}")
            machine.helpers = [virtiofsd.command()]
            machine.file_server = (_FILES_SOCKET, virtiofsd.SOCKET)
        if has_cards:
            # vec=0: calls for many frames at once are of sockets only.
            machine.card = ["vec{place}:transport=fd,fd={tap},mac={mac},mtu={mtu},vec=0"]
            machine.card_header = False
        return machine

    def plug(self, machine: Machine, name: str, source: str, *, writable: bool = False) -> str:
        if not _modules(_FOR_IMAGES):
            raise HostError(f"the kernel's modules {', '.join(_FOR_IMAGES)} are not below {_MODULES}", "leave out --root-image")
        device = f"ubd{'abcdefgh'[len(machine.disks)]}"
        machine.command.append(f"{device}{'' if writable else 'r'}=/guest/{name}")
        machine.disks.append((name, source, writable))
        return device


def _modules(needed: tuple[str, ...] = _NEEDED) -> list[str]:
    """What that kernel needs to mount the containers' files, or so; empty if one is missing."""
    try:
        release = max(os.listdir(_MODULES))
    except (FileNotFoundError, ValueError):
        return []
    paths = [f"{_MODULES}/{release}/kernel/{name}.ko" for name in needed]
    return paths if all(os.path.exists(path) for path in paths) else []

"""QEMU: with KVM where this host's is good, else by emulation, which needs nothing of the host."""

from __future__ import annotations

import os

from casemate.errors import HostError
from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor import template, virtiofsd
from casemate.hypervisor.base import Hypervisor, Machine
from casemate.isolation.base import Verdict

PROGRAM = "/usr/bin/qemu-system-x86_64"
# Not QEMU's `microvm`: without KVM's clock a guest of it has no timer whose rate it could learn (ACPI tables lead it past the PIT, and Debian's virtio_mmio
# finds no device without ACPI). This one boots in the same 3 s of processor time.
_MACHINE = "q35,memory-backend=memory"


class Qemu(Hypervisor):
    """The agent's stream is a port of virtio-serial; the containers' files come by virtio-fs, from a server of files in the same jail."""

    name = "qemu"
    merit = "an emulated machine, which needs no KVM"

    def probe(self) -> Verdict:
        from casemate.guest import kernels

        if not os.access(PROGRAM, os.X_OK):
            return Verdict(False, f"there is no {PROGRAM}", "install Debian's package qemu-system-x86")
        if not virtiofsd.find()[0]:
            return Verdict(False, "there is no virtiofsd", "install Debian's package qemu-system-common, or virtiofsd")
        if kernels.preferred() is None:
            return Verdict(False, "there is no kernel for it", f"run `casemate kernel install {kernels.CLOUD}`")
        return Verdict(True)

    def remark(self) -> str:
        why_not = template.why_not()
        return f"machines boot anew at each start: {why_not}" if why_not else "machines are restored from a template"

    def kernel_to_install(self) -> str:
        from casemate.guest import kernels

        has_programs = os.access(PROGRAM, os.X_OK) and bool(virtiofsd.find()[0])
        return kernels.CLOUD if has_programs and kernels.preferred() is None else ""

    def machine(self, memory_mib: int) -> Machine:
        from casemate.guest import kernels

        kernel = kernels.preferred()
        assert kernel  # probe() has seen it
        files = {"kernel": kernel.image, "initramfs": initramfs(kernel.name, kernel.modules)}
        state = _state(memory_mib, files)
        if state:
            # Files are plugged in once it runs: what serves them has a state of its own, which no file of QEMU's holds.
            files = {**files, "state": state}
            command = [*_command(memory_mib, _IN_JAIL, "{link}"), *_SANDBOX, *_monitor("{monitor}"), "-incoming", "fd:{open:/guest/state}", *_FILES]
        else:
            command = [*_command(memory_mib, _IN_JAIL, "{link}"), *_SANDBOX, *_FILES, "-device", "vhost-user-fs-pci,chardev=files,tag=share"]
        machine = Machine(command, share="virtiofs", files=files)
        machine.restored = [_CAPABILITIES, _PLUG_IN] if state else None
        machine.helpers = [virtiofsd.command()]
        return machine


_IN_JAIL = {"kernel": "/guest/kernel", "initramfs": "/guest/initramfs"}
_FILES = ["-chardev", f"socket,id=files,path={virtiofsd.SOCKET}"]
# QEMU's own filter, inside of the relay's: it executes nothing more.
_SANDBOX = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
_CAPABILITIES = '{"execute": "qmp_capabilities"}'
_PLUG_IN = '{"execute": "device_add", "arguments": {"driver": "vhost-user-fs-pci", "chardev": "files", "tag": "share", "bus": "files"}}'


def _command(memory_mib: int, files: dict[str, str], link: str) -> list[str]:
    """All but what carries files."""
    append = f"console=ttyS0 quiet casemate.end=restart panic=-1 reboot=t rdinit=/{AGENT} casemate.link=vport random.trust_cpu=on mitigations=off"
    return [
        PROGRAM, "-M", _MACHINE, "-accel", "tcg", "-cpu", "max", "-m", f"{memory_mib}M", "-smp", "1",
        "-object", f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", files["kernel"], "-initrd", files["initramfs"], "-append", append,
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
        "-chardev", f"socket,id=link,fd={link}", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=link,nr=1",
        "-device", "pcie-root-port,id=files,chassis=1",
    ]  # fmt: skip


def _monitor(fd: str) -> list[str]:
    return ["-chardev", f"socket,id=monitor,fd={fd}", "-mon", "chardev=monitor,mode=control"]


def _state(memory_mib: int, files: dict[str, str]) -> str:
    """The template's state; "" where there is none, and none can be made: then the machine boots."""
    if not template.is_wanted():
        return ""

    def command(link: int, monitor: int) -> list[str]:
        return [*_command(memory_mib, files, str(link)), *_monitor(str(monitor))]

    try:
        return template.find_or_make("qemu", [PROGRAM, *files.values()], _command(memory_mib, _IN_JAIL, ""), command)
    except (HostError, OSError) as error:
        template.note_failure(str(error))
        return ""

"""QEMU: with KVM where this host's is good, else by emulation, which needs nothing of the host."""

from __future__ import annotations

import os

from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor.base import Hypervisor, Machine
from casemate.isolation.base import Verdict

PROGRAM = "/usr/bin/qemu-system-x86_64"
# QEMU's own in C, up to version 7; then the one in Rust.
_FILE_SERVERS = (("/usr/lib/qemu/virtiofsd", False), ("/usr/libexec/virtiofsd", True))
_FILES_SOCKET = "/tmp/files.sock"
_KERNEL = "cloud"
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
        if not _file_server()[0]:
            return Verdict(False, "there is no virtiofsd", "install Debian's package qemu-system-common, or virtiofsd")
        if kernels.find(_KERNEL) is None:
            return Verdict(False, "there is no kernel for it", "run `casemate kernel install cloud`")
        return Verdict(True)

    def kernel_to_install(self) -> str:
        from casemate.guest import kernels

        has_programs = os.access(PROGRAM, os.X_OK) and bool(_file_server()[0])
        return _KERNEL if has_programs and kernels.find(_KERNEL) is None else ""

    def machine(self, memory_mib: int) -> Machine:
        from casemate.guest import kernels

        kernel = kernels.find(_KERNEL)
        assert kernel  # probe() has seen it
        append = f"console=ttyS0 quiet casemate.end=restart panic=-1 reboot=t rdinit=/{AGENT} casemate.link=vport random.trust_cpu=on mitigations=off"
        command = [
            PROGRAM, "-M", _MACHINE, "-accel", "tcg", "-cpu", "max", "-m", f"{memory_mib}M", "-smp", "1",
            "-object", f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", "/guest/kernel", "-initrd", "/guest/initramfs", "-append", append,
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", "socket,id=link,fd={link}", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=link,nr=1",
            "-chardev", f"socket,id=files,path={_FILES_SOCKET}", "-device", "vhost-user-fs-pci,chardev=files,tag=share",
        ]  # fmt: skip
        files = {"kernel": kernel.image, "initramfs": initramfs(kernel.name, kernel.modules)}
        machine = Machine(command, share="virtiofs", files=files)
        machine.helpers = [_serve_files()]
        machine.wait_for = [_FILES_SOCKET]
        return machine


def _file_server() -> tuple[str, bool]:
    for path, is_rust in _FILE_SERVERS:
        if os.access(path, os.X_OK):
            return path, is_rust
    return "", False


def _serve_files() -> list[str]:
    path, is_rust = _file_server()
    common = [path, f"--socket-path={_FILES_SOCKET}", "--rlimit-nofile=0"]
    if is_rust:
        return [*common, "--shared-dir=/share", "--sandbox=chroot", "--cache=auto", "--xattr"]
    return [*common, "-f", "-o", "source=/share,sandbox=chroot,cache=auto,xattr,flock,posix_lock"]

"""QEMU: on KVM where the processor has virtualisation, else by emulation, which needs nothing of the host."""

from __future__ import annotations

import os

from casemate import jsonlite
from casemate.errors import HostError
from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor import kvm, template, virtiofsd
from casemate.hypervisor.base import Machine, OfKernels, check_maps_images
from casemate.isolation.base import Verdict

PROGRAM = "/usr/bin/qemu-system-x86_64"
# Not QEMU's `microvm`: without KVM's clock a guest of it has no timer whose rate it could learn (ACPI tables lead it past the PIT, and Debian's virtio_mmio
# finds no device without ACPI). This one boots in the same 3 s of processor time.
_MACHINE = "q35,memory-backend=memory"


class Qemu(OfKernels):
    """The agent's stream is a port of virtio-serial; the containers' files come by virtio-fs, from a server of files in the same jail."""

    name = "qemu"
    is_faster_by_images = True  # a file server answers each look at a file across an emulated device
    merit = "a whole machine, which is emulated where KVM is not real"

    def host(self) -> Verdict:
        if not os.access(PROGRAM, os.X_OK):
            return Verdict(False, f"there is no {PROGRAM}", "install Debian's package qemu-system-x86")
        return Verdict(True)

    def remark(self) -> str:
        by = "machines run on KVM" if kvm.is_real() else f"machines are emulated: {kvm.why_not_real()}"
        why_not = template.why_not()
        return f"{by}; they boot anew at each start: {why_not}" if why_not else f"{by}; they are restored from a template"

    def machine(self, memory_mib: int, share: str = "", *, has_cards: bool = False, maps_image: bool = False) -> Machine:
        kernel = self.kernel()
        assert kernel  # probe() has seen it
        if maps_image:
            check_maps_images(kernel)
        files = {"kernel": kernel.image, "initramfs": initramfs(*kernel.loads(maps_image=maps_image))}
        state = _state(memory_mib, files, maps_image=maps_image)
        if state:
            # Files are plugged in once it runs: what serves them has a state of its own, which no file of QEMU's holds.
            files = {**files, "state": f"{state}/state", "memory": f"{state}/memory"}
            own = _memory_in("{copy:/guest/memory}", memory_mib)
            command = [*_command(memory_mib, _IN_JAIL, "{link}", own, maps_image=maps_image), *_SANDBOX, *_monitor("{monitor}"), "-incoming", "defer"]
        else:
            command = [*_command(memory_mib, _IN_JAIL, "{link}", maps_image=maps_image), *_SANDBOX]
        share = share or virtiofsd.way()
        machine = Machine(command, share="" if share == "none" else share, files=files)
        if kvm.is_real():
            machine.devices = {kvm.DEVICE: kvm.device_for_anybody()}
        if state:
            machine.restored = []
            machine.orders = [
                _order("qmp_capabilities"),
                _order("migrate-set-capabilities", **IGNORE_SHARED),
                _order("migrate-incoming", uri="fd:{open:/guest/state}"),
            ]
        if share == "virtiofs":
            machine.command += ["-chardev", f"socket,id=files,path={virtiofsd.SOCKET}"]
            machine.helpers = [virtiofsd.command()]
            _plug(machine, {"driver": "vhost-user-fs-pci", "chardev": "files", "tag": "share", "bus": "files"})
        if has_cards:
            machine.card = _card(is_restored=bool(state))
        return machine

    def plug(self, machine: Machine, name: str, source: str, *, writable: bool = False) -> str:
        kernel = self.kernel()
        if kernel and not kernel.has("overlay"):
            raise HostError("the installed kernel has no modules for disks", f"run `casemate kernel install {kernel.name}` again")
        block = {"driver": "file", "node-name": name, "filename": f"/guest/{name}", "read-only": not writable}
        if machine.restored is None:
            machine.command += ["-blockdev", jsonlite.dumps(block)]
        else:
            machine.restored.append(jsonlite.dumps({"execute": "blockdev-add", "arguments": block}))
        _plug(machine, {"driver": "virtio-blk-pci", "drive": name, "serial": name, "bus": name})
        machine.disks.append((name, source, writable))
        return f"serial:{name}"

    def map_image(self, machine: Machine, name: str, source: str) -> str:
        """A write by the guest goes nowhere: neither the file nor its memory is writable, so QEMU drops it."""
        memory = {"qom-type": "memory-backend-file", "id": name, "mem-path": f"/guest/{name}", "size": os.path.getsize(source)}
        memory |= {"share": True, "readonly": True}
        if machine.restored is None:
            machine.command += ["-object", jsonlite.dumps(memory)]
        else:
            machine.restored.append(jsonlite.dumps({"execute": "object-add", "arguments": memory}))
        _plug(machine, {"driver": "virtio-pmem-pci", "memdev": name, "bus": name})
        machine.disks.append((name, source, False))
        return "mapped:pmem0"


def _card(*, is_restored: bool) -> list[str]:
    netdev = {"type": "tap", "id": "card{place}", "fd": "{tap}"}
    # Functions of one slot, which a restored guest looks for when the first is plugged in; it boots from none of them.
    place = {"bus": "cards", "addr": "0.{place}", "multifunction": True}
    device = {"driver": "virtio-net-pci", "netdev": "card{place}", "mac": "{mac}", "romfile": "", **place}
    if is_restored:
        return [jsonlite.dumps({"execute": "netdev_add", "arguments": netdev}), jsonlite.dumps({"execute": "device_add", "arguments": device})]
    return ["-netdev", jsonlite.dumps(netdev), "-device", jsonlite.dumps(device)]


def _plug(machine: Machine, device: dict[str, str]) -> None:
    """Into its port: at the start, or once a machine of a template runs."""
    if machine.restored is None:
        machine.command += ["-device", jsonlite.dumps(device)]
    else:
        machine.restored.append(jsonlite.dumps({"execute": "device_add", "arguments": device}))


_IN_JAIL = {"kernel": "/guest/kernel", "initramfs": "/guest/initramfs"}
# QEMU's own filter, inside of the relay's: it executes nothing more.
_SANDBOX = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
# The memory is not in the state, but a file of its own: only what is not zero in it costs memory after a restore. (Read from the state, each page was touched.)
IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
# What is plugged in after a restore: the containers' files, an image that is the root, a disk for what is written over it, network cards.
_PORTS = ("files", "root", "layer", "cards")
_ROOM_MIB = 4 << 10  # of addresses, for an image that is mapped (images.MOST_MAPPED), wherever its place has to begin


def _order(command: str, **arguments: object) -> str:
    return jsonlite.dumps({"execute": command, "arguments": arguments})


def _memory_in(descriptor: str, memory_mib: int) -> str:
    """Shared, because the server of files reads and writes in it."""
    return f"memory-backend-file,id=memory,size={memory_mib}M,share=on,mem-path=/proc/self/fd/{descriptor}"


def _processor() -> list[str]:
    if kvm.is_real():
        return ["-accel", "kvm", "-cpu", "host", "-smp", str(kvm.processors())]
    return ["-accel", "tcg", "-cpu", "max", "-smp", "1"]


def _command(memory_mib: int, files: dict[str, str], link: str, memory: str = "", *, maps_image: bool = False) -> list[str]:
    """All but what carries files. memory: an object, if it is there already."""
    room = f",slots=1,maxmem={memory_mib + _ROOM_MIB}M" if maps_image else ""
    ports = [word for chassis, name in enumerate(_PORTS, 1) for word in ("-device", f"pcie-root-port,id={name},chassis={chassis}")]
    append = f"console=ttyS0 quiet casemate.end=restart panic=-1 reboot=t rdinit=/{AGENT} casemate.link=vport random.trust_cpu=on"
    if not kvm.is_real():
        append += " mitigations=off"  # of an emulated processor's faults, which it has not
    if maps_image:
        append += " swiotlb=noforce"  # a distribution's kernel puts 64 MiB aside where memory may come later, for devices that reach 4 GiB only
    return [
        PROGRAM, "-M", _MACHINE, *_processor(), "-m", f"{memory_mib}M{room}",
        "-object", memory or f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", files["kernel"], "-initrd", files["initramfs"], "-append", append,
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
        "-chardev", f"socket,id=link,fd={link}", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=link,nr=1",
        *ports,
    ]  # fmt: skip


def _monitor(fd: str) -> list[str]:
    return ["-chardev", f"socket,id=monitor,fd={fd}", "-mon", "chardev=monitor,mode=control"]


def _state(memory_mib: int, files: dict[str, str], *, maps_image: bool) -> str:
    """The template's state; "" where there is none, and none can be made: then the machine boots."""

    def command(link: int, monitor: int, memory: int) -> list[str]:
        own = _memory_in(str(memory), memory_mib)
        return [*_command(memory_mib, files, str(link), own, maps_image=maps_image), *_monitor(str(monitor))]

    def make(path: str) -> None:
        from casemate.hypervisor.qmp import save_template

        save_template(command, memory_mib << 20, path)

    words = _command(memory_mib, _IN_JAIL, "", _memory_in("", memory_mib), maps_image=maps_image)
    return template.state("qemu", [PROGRAM, *files.values()], words, make)

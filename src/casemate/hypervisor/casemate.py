"""Our own monitor on KVM: `casemate-engine vmm`, in the same jail as every hypervisor, with nothing of the host's beside it."""

from __future__ import annotations

import os

from casemate import jsonlite
from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor import template
from casemate.hypervisor.base import Hypervisor, Machine
from casemate.isolation.base import Verdict
from casemate.isolation.engine_process import engine_path

# The relay is that file, whatever its jail shows.
_ENGINE = "/proc/self/exe"
_KVM = "/dev/kvm"
_PATIENCE = "CASEMATE_PATIENCE"
_PATIENT_BOOT_S = 1500
_MOST_CPUS = 32
_DISKS = ("root", "layer")  # in this order on the bus
# reboot=k: the keyboard controller, which ends the monitor.
_BOOT = f"console=ttyS0 quiet panic=-1 reboot=k nokaslr rdinit=/{AGENT} casemate.link=hvc casemate.end=restart random.trust_cpu=on"

# For a KVM without virtualisation in the processor: what it cannot emulate of a kernel's instructions, or does slowly.
_EMULATED = (
    "noxsave nopti clearcpuid=smap,smep,umip,cx16,xsave,fsgsbase,pcid,invpcid,rdtscp,popcnt,sse4_1,sse4_2,ssse3,aes,"
    "pclmulqdq,avx,avx2,sha_ni,bmi1,bmi2,adx,movbe idle=nomwait lpj=1000000 tsc=reliable init_on_alloc=0 mitigations=off"
)


class Casemate(Hypervisor):
    """The agent's stream is a virtio console, whose other end the monitor is started with. Directories come over it, too: there is no device for them."""

    name = "casemate"
    is_faster_by_images = True  # than by nothing
    merit = "a small monitor of ours on KVM"

    def probe(self) -> Verdict:
        from casemate.guest import kernels
        from casemate.host.probe import has_virtualisation, kvm

        found = kvm()
        if not found["usable"]:
            return Verdict(False, str(found["reason"]), "load the module kvm-intel or kvm-amd, and let the user into the group kvm")
        if not (has_virtualisation() or _is_patient()):
            reason = f"{_KVM} works, but the processor has no virtualisation to offer: guests' kernels are emulated and boot in minutes, if at all"
            return Verdict(False, reason, f"use a host with virtualization (nested, on a cloud's machine); {_PATIENCE}=1 tries it all the same")
        if kernels.preferred() is None:
            return Verdict(False, "there is no kernel for it", f"run `casemate kernel install {kernels.CLOUD}`")
        return Verdict(True)

    def remark(self) -> str:
        why_not = template.why_not()
        restored = f"machines boot anew at each start: {why_not}" if why_not else "machines are restored from a template"
        return f"directories of the host come over the agent's stream, which is slow: prefer --rootfs, whose image is a disk; {restored}"

    def kernel_to_install(self) -> str:
        from casemate.guest import kernels
        from casemate.host.probe import has_virtualisation, kvm

        has_kvm = kvm()["usable"] and (has_virtualisation() or _is_patient())
        return kernels.CLOUD if has_kvm and kernels.preferred() is None else ""

    def machine(self, memory_mib: int, share: str = "") -> Machine:
        from casemate.guest import kernels

        kernel = kernels.preferred()
        assert kernel  # probe() has seen it
        machine = Machine([], share="" if share == "none" else "protocol", files={"kernel": kernel.image, "initramfs": initramfs(kernel.name, kernel.modules)})
        machine.needs_programs = False
        machine.opened = {"kvm": _KVM}
        if _is_patient():
            machine.boot_timeout_s = _PATIENT_BOOT_S
        configuration = _configuration(memory_mib)
        state = _state(configuration, machine)
        if state:
            machine.files = {"state": f"{state}/state", "memory": f"{state}/memory"}
            machine.restored = []
            # A disk that nobody plugs in is empty.
            machine.documents = {"blank": ""}
        _describe(machine, _loading() if state else configuration)
        return machine

    def plug(self, machine: Machine, name: str, source: str, *, writable: bool = False) -> str:
        document = jsonlite.loads(machine.documents["machine"])
        assert isinstance(document, dict)
        if machine.restored is None:
            document["drives"].append({"drive_id": name, "path_on_host": f"/guest/{name}", "is_root_device": False, "is_read_only": not writable})
        else:
            next(drive for drive in document["drive_overrides"] if drive["drive_id"] == name)["path_on_host"] = f"/guest/{name}"
        machine.disks.append((name, source, writable))
        _describe(machine, document)
        return f"vd{'ab'[_DISKS.index(name)]}"


def _is_patient() -> bool:
    return bool(os.environ.get(_PATIENCE))


def _configuration(memory_mib: int) -> dict[str, object]:
    from casemate.host.probe import has_virtualisation

    is_real = has_virtualisation()
    # An emulated kernel has no use for a second processor: the locks between them cost more than it brings.
    cpus = min(len(os.sched_getaffinity(0)), _MOST_CPUS) if is_real else 1
    return {
        "boot-source": {"kernel_image_path": "/guest/kernel", "initrd_path": "/guest/initramfs", "boot_args": _BOOT if is_real else f"{_BOOT} {_EMULATED}"},
        "machine-config": {"vcpu_count": cpus, "mem_size_mib": memory_mib},
        "drives": [],
        "entropy": {},
    }


def _loading() -> dict[str, object]:
    """A template's state with this machine's disks."""
    return {
        "snapshot_path": "/guest/state",
        "mem_backend": {"backend_type": "File", "backend_path": "/guest/memory"},
        "drive_overrides": [{"drive_id": name, "path_on_host": "{document:blank}"} for name in _DISKS],
        "resume_vm": True,
    }


def _describe(machine: Machine, document: dict[str, object]) -> None:
    machine.documents["machine"] = jsonlite.dumps(document)
    option = "--config-file" if machine.restored is None else "--load-snapshot"
    machine.command = [_ENGINE, "vmm", "--no-api", option, "{document:machine}", "--kvm-fd", "{opened:kvm}", "--console-fd", "{link}"]


def _state(configuration: dict[str, object], machine: Machine) -> str:
    """The template's directory; "" where the machine boots."""
    files = {f"/guest/{name}": path for name, path in machine.files.items()}
    source = configuration["boot-source"]
    assert isinstance(source, dict)
    outside = {**configuration, "boot-source": {key: files.get(word, word) for key, word in source.items()}}

    def make(path: str) -> None:
        from casemate.hypervisor.vmm_template import save_template

        save_template(outside, _DISKS, path, machine.boot_timeout_s)

    return template.state("casemate", [engine_path(), *files.values()], [jsonlite.dumps(configuration)], make)

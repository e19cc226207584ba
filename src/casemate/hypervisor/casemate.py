"""Our own monitor on KVM: `casemate-engine vmm`, in the same jail as every hypervisor, with nothing of the host's beside it."""

from __future__ import annotations

from casemate import jsonlite
from casemate.guest.initramfs import AGENT, initramfs
from casemate.hypervisor import kvm, template
from casemate.hypervisor.base import Machine, OfKernels, check_maps_images
from casemate.isolation.base import Verdict
from casemate.isolation.engine_process import engine_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.guest.kernels import Kernel

# The relay is that file, whatever its jail shows.
_ENGINE = "/proc/self/exe"
_EMULATED_BOOT_S = 600  # 26 s alone, 180 beside fifteen busy processes
_MAX_CARDS = 8  # MAX_INTERFACES of crates/guest-protocol/src/network.rs, whose card_mac() is below
_MAX_CARDS_EMULATED = 4  # that kernel knows the old interrupt controller only, whose lines from 5 to 15 our devices have
_DISKS = ("root", "layer")  # in this order on the bus, behind the agent's
# reboot=k: the keyboard controller, which ends the monitor.
_BOOT = "console=ttyS0 quiet panic=-1 reboot=k nokaslr casemate.link=hvc casemate.end=restart random.trust_cpu=on"

# For a KVM without virtualisation in the processor: what it cannot emulate of a kernel's instructions, or does slowly.
EMULATED = (
    "noxsave nopti clearcpuid=smap,smep,umip,cx16,xsave,fsgsbase,pcid,invpcid,rdtscp,popcnt,sse4_1,sse4_2,ssse3,aes,"
    "pclmulqdq,avx,avx2,sha_ni,bmi1,bmi2,adx,movbe idle=nomwait lpj=1000000 tsc=reliable init_on_alloc=0 mitigations=off"
)


class Casemate(OfKernels):
    """The agent's stream is a virtio console, whose other end the monitor is started with. Directories come over it, too: there is no device for them."""

    name = "casemate"
    is_faster_by_images = True  # than by nothing
    merit = "a small monitor of ours on KVM"

    def host(self) -> Verdict:
        from casemate.guest import agent_disk

        verdict = kvm.verdict()
        lacking = agent_disk.why_not()
        if not verdict.ok or kvm.is_real() or not lacking:
            return verdict
        return Verdict(False, f"{kvm.WITHOUT_PROCESSOR}; the kernel for that has its agent on a disk, and {lacking}", kvm.REMEDY)

    def kernel(self) -> Kernel | None:
        from casemate.guest import kernels

        return kernels.preferred() if kvm.is_real() else kernels.find(kernels.POOR_KVM)

    def without_kernel(self) -> Verdict:
        from casemate.guest import kernels

        if kvm.is_real():
            return super().without_kernel()
        build = f"run `casemate kernel build {kernels.POOR_KVM}` (some minutes), or {kvm.REMEDY}"
        return Verdict(False, f"{kvm.WITHOUT_PROCESSOR}: that takes a kernel of its own", build)

    def kernel_to_install(self) -> str:
        return super().kernel_to_install() if kvm.is_real() else ""  # that one is built

    def remark(self) -> str:
        why_not = template.why_not()
        restored = f"machines boot anew at each start: {why_not}" if why_not else "machines are restored from a template"
        slow = "" if kvm.is_real() else f"the last to be tried: {kvm.WITHOUT_PROCESSOR}; "
        return f"{slow}prefer --rootfs, whose image is a disk: other directories come over the agent's stream, which is slow; {restored}"

    def machine(self, memory_mib: int, share: str = "", *, has_cards: bool = False, maps_image: bool = False) -> Machine:
        kernel = self.kernel()
        assert kernel  # probe() has seen it
        if maps_image:
            check_maps_images(kernel)
        machine = Machine([], share="" if share == "none" else "protocol", files={"kernel": kernel.image, **_agent(kernel, maps_image=maps_image)})
        machine.needs_programs = False
        machine.opened = {"kvm": kvm.DEVICE}
        if not kvm.is_real():
            machine.boot_timeout_s = _EMULATED_BOOT_S
        configuration = _configuration(memory_mib, machine)
        if has_cards:
            # As many as there can be interfaces: a machine of a template gets no further one. Without a tap, a card has nothing at its other end.
            configuration["network-interfaces"] = [_card(place) for place in range(_MAX_CARDS if kvm.is_real() else _MAX_CARDS_EMULATED)]
            machine.card = ["--tap-fd", "eth{place}={tap}"]
        # Where memory of devices is, a kernel learns at its boot: with an image that is mapped there is no template.
        state = "" if maps_image else _state(configuration, machine)
        if state:
            disk = {name: path for name, path in machine.files.items() if name == "agent"}
            machine.files = {"state": f"{state}/state", "memory": f"{state}/memory", **disk}
            machine.restored = []
            # A disk that nobody plugs in is empty.
            machine.documents = {"blank": ""}
        _describe(machine, _loading(machine) if state else configuration)
        return machine

    def plug(self, machine: Machine, name: str, source: str, *, writable: bool = False) -> str:
        document = jsonlite.loads(machine.documents["machine"])
        assert isinstance(document, dict)
        place = _DISKS.index(name) + ("agent" in machine.files)
        if machine.restored is None:
            place = len(document["drives"])
            document["drives"].append(_drive(name, is_read_only=not writable))
        else:
            next(drive for drive in document["drive_overrides"] if drive["drive_id"] == name)["path_on_host"] = f"/guest/{name}"
        machine.disks.append((name, source, writable))
        _describe(machine, document)
        return f"vd{'abc'[place]}"

    def map_image(self, machine: Machine, name: str, source: str) -> str:
        document = jsonlite.loads(machine.documents["machine"])
        assert isinstance(document, dict)
        document["pmem"] = [{"id": name, "path_on_host": f"/guest/{name}", "root_device": False, "read_only": True}]
        machine.disks.append((name, source, False))
        _describe(machine, document)
        return "mapped:pmem0"


def _agent(kernel: Kernel, *, maps_image: bool) -> dict[str, str]:
    """The file that the agent comes in, by the name that it has in the jail."""
    from casemate.guest import agent_disk

    if kernel.modules or (kvm.is_real() and agent_disk.why_not()):
        return {"initramfs": initramfs(*kernel.loads(maps_image=maps_image))}
    return {"agent": agent_disk.agent_disk()}


def _drive(name: str, *, is_read_only: bool = True) -> dict[str, object]:
    return {"drive_id": name, "path_on_host": f"/guest/{name}", "is_root_device": name == "agent", "is_read_only": is_read_only}


def _card(place: int) -> dict[str, object]:
    return {"iface_id": f"eth{place}", "host_dev_name": "", "guest_mac": f"02:63:6d:00:00:{place:02x}"}


def _configuration(memory_mib: int, machine: Machine) -> dict[str, object]:
    """As it is in the jail."""
    words = _BOOT if kvm.is_real() else f"{_BOOT} {EMULATED}"
    source = {"kernel_image_path": "/guest/kernel"}
    has_disk = "agent" in machine.files
    if not has_disk:
        source["initrd_path"] = "/guest/initramfs"
    return {
        "boot-source": {**source, "boot_args": f"{words} {'init' if has_disk else 'rdinit'}=/{AGENT}"},
        "machine-config": {"vcpu_count": kvm.processors(), "mem_size_mib": memory_mib},
        "drives": [_drive("agent")] if has_disk else [],
        "entropy": {},
    }


def _loading(machine: Machine) -> dict[str, object]:
    """A template's state with this machine's disks."""
    disks = {name: f"/guest/{name}" for name in machine.files if name == "agent"} | dict.fromkeys(_DISKS, "{document:blank}")
    return {
        "snapshot_path": "/guest/state",
        "mem_backend": {"backend_type": "File", "backend_path": "/guest/memory"},
        "drive_overrides": [{"drive_id": name, "path_on_host": path} for name, path in disks.items()],
        "resume_vm": True,
    }


def _describe(machine: Machine, document: dict[str, object]) -> None:
    machine.documents["machine"] = jsonlite.dumps(document)
    option = "--config-file" if machine.restored is None else "--load-snapshot"
    machine.command = [_ENGINE, "vmm", "--no-api", option, "{document:machine}", "--kvm-fd", "{opened:kvm}", "--console-fd", "{link}"]


def _state(configuration: dict[str, object], machine: Machine) -> str:
    """The template's directory; "" where the machine boots."""

    def make(path: str) -> None:
        from casemate.hypervisor.vmm_template import save_template

        outside = jsonlite.dumps(configuration)
        for name, file in machine.files.items():
            outside = outside.replace(f'"/guest/{name}"', jsonlite.dumps(file))
        save_template(outside, _DISKS, path, machine.boot_timeout_s)

    told = "" if kvm.is_real() else "a machine is booted once, which takes half a minute and more, for its kernel is emulated; later starts restore it"
    return template.state("casemate", [engine_path(), *machine.files.values()], [jsonlite.dumps(configuration)], make, told)

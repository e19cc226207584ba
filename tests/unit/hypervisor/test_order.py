"""Which hypervisor is taken, and how QEMU runs, on hosts of several kinds: the host's answers are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from casemate.errors import HostError
from casemate.guest import agent_disk, kernels
from casemate.host import probe
from casemate.hypervisor import kvm, qemu, registry, uml

Host = Callable[..., None]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path))
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    monkeypatch.delenv("CASEMATE_HYPERVISOR", raising=False)
    monkeypatch.setattr(agent_disk, "why_not", lambda: "")
    (tmp_path / "program").touch(0o755)

    def make(*, device: bool, processor: bool, has: tuple[str, ...] = (), with_kernels: tuple[str, ...] = (kernels.OURS,)) -> None:
        monkeypatch.setattr(probe, "kvm", lambda root="": {"usable": device, "reason": "" if device else "there is no /dev/kvm"})
        monkeypatch.setattr(probe, "has_virtualisation", lambda root="": processor)
        monkeypatch.setattr(qemu, "PROGRAM", str(tmp_path / ("program" if "qemu" in has else "none")))
        monkeypatch.setattr(uml, "PROGRAM", str(tmp_path / ("program" if "uml" in has else "none")))
        monkeypatch.setattr(uml, "_modules", lambda needed=(): ["module"])
        for name in with_kernels:
            (tmp_path / "kernels" / name).mkdir(parents=True)
            (tmp_path / "kernels" / name / "kernel.json").write_text(json.dumps({"release": name}))

    return make


ALL = ("qemu", "uml")


@pytest.mark.parametrize(
    ("device", "processor", "has", "taken"),
    [
        (True, True, ALL, "casemate"),
        (True, False, ALL, "uml"),  # emulated kernels: the last
        (False, True, ALL, "uml"),  # the processor has it, and this user may not use it
        (False, False, ("qemu",), "qemu"),
        (True, False, (), "casemate"),
    ],
)
def test_the_first_that_can_run_is_taken(host: Host, device: bool, processor: bool, has: tuple[str, ...], taken: str) -> None:
    host(device=device, processor=processor, has=has, with_kernels=(kernels.OURS, kernels.POOR_KVM))
    choice = registry.choose()
    assert (choice.hypervisor.name, choice.by_probe) == (taken, True)
    assert registry.order()[0] == ("casemate" if device and processor else "uml")


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_kernel_without_a_module_for_cards_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An installed one of an earlier version. User Mode Linux has its driver of cards in itself."""
    installed = kernels.Kernel("/somewhere/cloud", {"modules": ["00-virtio.ko"]})
    monkeypatch.setattr(kernels, "find", lambda _: installed)
    verdict = registry.get(name).network()
    assert verdict.ok == (name == "uml")
    assert verdict.ok or verdict.remedy == "run `casemate kernel install cloud` again"


@pytest.mark.parametrize("name", ["qemu", "casemate"])
def test_a_kernel_that_maps_no_images_is_told(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    host(device=True, processor=True, has=("qemu",))
    hypervisor = registry.get(name)
    with pytest.raises(HostError, match="the kernel 'casemate' maps no images") as caught:
        hypervisor.machine(128, "none", maps_image=True)
    assert caught.value.remedy == "run `casemate kernel build casemate` again, or leave out +dax"
    installed = kernels.Kernel("/somewhere/cloud", {"modules": ["00-virtio.ko", "17-virtio_pmem.ko"]})
    assert (installed.modules, installed.maps_images()) == (["/somewhere/cloud/00-virtio.ko"], False)


def test_what_each_lacks_is_said(host: Host) -> None:
    host(device=True, processor=False, with_kernels=())
    with pytest.raises(HostError) as caught:
        registry.choose()
    assert "guests' kernels are emulated: that takes a kernel of its own" in caught.value.reason
    assert registry.installable() == "uml"
    with pytest.raises(HostError) as caught:
        registry.choose("casemate")
    assert "casemate kernel build poor-kvm" in caught.value.remedy
    assert registry.installable("casemate") == ""


@pytest.mark.parametrize("name", ["qemu", "casemate"])
def test_a_kernel_is_all_that_is_lacking(host: Host, name: str) -> None:
    host(device=True, processor=True, has=("qemu",), with_kernels=())
    verdict = registry.get(name).probe()
    assert (verdict.ok, verdict.reason, verdict.remedy) == (False, "there is no kernel for it", "run `casemate kernel install cloud`")
    assert registry.installable(name) == "cloud"


def test_qemu_uses_kvm_where_it_is_real(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "initramfs", lambda *_: "/initramfs")
    monkeypatch.setattr(kvm, "device_for_anybody", lambda: "/device")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3))
    host(device=True, processor=True, has=("qemu",))
    machine = qemu.Qemu().machine(128, "none")
    line = " ".join(machine.command)
    assert "-accel kvm -cpu host -smp 3 " in line
    assert "mitigations=off" not in line
    assert machine.devices == {"/dev/kvm": "/device"}
    assert "machines run on KVM" in qemu.Qemu().remark()


@pytest.mark.parametrize(("device", "processor"), [(True, False), (False, True)])
def test_qemu_emulates_elsewhere_and_says_why(host: Host, monkeypatch: pytest.MonkeyPatch, device: bool, processor: bool) -> None:
    monkeypatch.setattr(qemu, "initramfs", lambda *_: "/initramfs")
    host(device=device, processor=processor, has=("qemu",))
    machine = qemu.Qemu().machine(128, "none")
    line = " ".join(machine.command)
    assert "-accel tcg -cpu max -smp 1 " in line
    assert "mitigations=off" in line
    assert machine.devices == {}
    said = qemu.Qemu().remark()
    assert ("no virtualisation to offer" if device else "there is no /dev/kvm") in said

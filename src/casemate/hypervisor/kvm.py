"""What this host's KVM is worth to those hypervisors that use one, said in one place."""

from __future__ import annotations

import os
import stat

from casemate.guest import store
from casemate.isolation.base import Verdict

DEVICE = "/dev/kvm"
DEVICE_RULE = {"allow": True, "type": "c", "major": 10, "minor": 232, "access": "rw"}  # Documentation/admin-guide/devices.txt in Linux
WITHOUT_PROCESSOR = f"{DEVICE} works, but the processor has no virtualisation to offer, and guests' kernels are emulated"
REMEDY = "use a host with virtualization (nested, on a cloud's machine)"
_MOST_CPUS = 32


def verdict() -> Verdict:
    """Whether KVM can be used at all, be it one that emulates guests' kernels."""
    from casemate.host.probe import kvm

    found = kvm()
    if not found["usable"]:
        return Verdict(False, str(found["reason"]), "load the module kvm-intel or kvm-amd, and let the user into the group kvm")
    return Verdict(True)


def is_real() -> bool:
    """Whether it can be used, and the processor has virtualisation: else each instruction of a guest's kernel is emulated, at 0.3 to 0.9 us."""
    from casemate.host.probe import has_virtualisation

    return has_virtualisation() and verdict().ok


def why_not_real() -> str:
    """What a guest's kernel would lack; "" if nothing."""
    return "" if is_real() else verdict().reason or WITHOUT_PROCESSOR


def processors() -> int:
    """How many a guest gets: as many as the process may use; one where its kernel is emulated, for locks between them would cost more than a second brings."""
    return min(len(os.sched_getaffinity(0)), _MOST_CPUS) if is_real() else 1


def device_for_anybody() -> str:
    """The path of the device for a hypervisor that opens it by itself, as an id that is nobody's: a node of our own in a directory that is closed to others.
    Where none can be made, it is the host's, with the host's mode.
    """
    directory = f"{store.prepare()}/devices"
    path = f"{directory}/kvm"
    try:
        if not os.path.exists(path):
            _make_device(directory, path)
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:  # a user without privileges, or a file system without devices
        return DEVICE
    return path


def _make_device(directory: str, path: str) -> None:
    os.makedirs(directory, 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    os.mknod(temporary, stat.S_IFCHR | 0o600, os.stat(DEVICE).st_rdev)
    os.chmod(temporary, 0o666)
    os.rename(temporary, path)

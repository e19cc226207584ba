"""What `do` settles before a guest is started: which hypervisor, and the kernel that it boots."""

from __future__ import annotations

import os

from casemate.errors import HostError
from casemate.guest import store
from casemate.hypervisor import registry, virtiofsd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.base import Hypervisor
    from casemate.runtime.sandbox import Start

_TOLD = "told-"


def prepare(wanted: str, how: Start, *, install: bool) -> None:
    """Notes the hypervisor that was named, or tells once which was chosen and why. `install`: a kernel that is missing is installed.

    Raises HostError with the command to run if none can run here.
    """
    if wanted:
        registry.get(wanted)
        how.annotations[registry.ANNOTATION] = wanted
    try:
        choice = registry.choose(wanted)
    except HostError as error:
        kernel = registry.installable(wanted)
        if not kernel:
            raise
        if not install:
            raise HostError(error.reason, f"run `casemate kernel install {kernel}`, or give --yes to have it run") from None
        from casemate.cli.commands.kernel import install as install_kernel

        how.warn(f"running `casemate kernel install {kernel}` (--yes)")
        install_kernel(kernel)
        choice = registry.choose(wanted)
    _tell_of_files(choice.hypervisor, how)
    if choice.by_probe:
        name = choice.hypervisor.name
        text = f"guests are run by {name}: {choice.why} (said once; --hypervisor names another, `casemate doctor` shows all)"
        _tell_once("hypervisor", name, text, how)


def _tell_of_files(hypervisor: Hypervisor, how: Start) -> None:
    if hypervisor.name != "casemate" and virtiofsd.way() == "protocol":
        text = "there is no virtiofsd, so the guest's files come over its agent's stream, which is slow (said once; Debian has it in qemu-system-common)"
        _tell_once("files", "protocol", text, how)


def choose_root(mode: str, rootfs: str, how: Start) -> None:
    """Has the guest's root made from an image of `rootfs`. "auto": where that is possible; why not is told once. Raises HostError, UsageError."""
    from casemate.guest import images

    if mode != "auto":
        images.disk_size(mode)
        how.annotations[images.ANNOTATION] = mode
        return
    if not registry.choose(how.annotations.get(registry.ANNOTATION, "")).hypervisor.is_faster_by_images:
        return
    try:
        images.find_or_make(rootfs)
    except HostError as error:
        text = f"the guest's root is the host's directory, not an image of it: {error.reason} (said once; {error.remedy})"
        _tell_once("root", error.reason, text, how)
        return
    how.annotations[images.ANNOTATION] = "memory"


def _tell_once(topic: str, name: str, text: str, how: Start) -> None:
    """A later start tells it again only if it is another."""
    path = f"{store.prepare()}/{_TOLD}{topic}"
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == name:
                return
    except FileNotFoundError:
        pass
    how.warn(text)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as out:
        out.write(name)
    os.rename(temporary, path)

"""What `do` settles before a guest is started: which hypervisor, and the kernel that it boots."""

from __future__ import annotations

from casemate.errors import HostError
from casemate.guest.told import tell_once
from casemate.hypervisor import registry, template, virtiofsd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.hypervisor.base import Hypervisor
    from casemate.runtime.sandbox import Start


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
    template.say = how.warn
    _tell_of_files(choice.hypervisor, how)
    if choice.by_probe:
        name = choice.hypervisor.name
        text = f"guests are run by {name}: {choice.why} (said once; --hypervisor names another, `casemate doctor` shows all)"
        tell_once("hypervisor", name, text, how.warn)


def _tell_of_files(hypervisor: Hypervisor, how: Start) -> None:
    if hypervisor.name != "casemate" and virtiofsd.way() == "protocol":
        text = "there is no virtiofsd, so the guest's files come over its agent's stream, which is slow (said once; Debian has it in qemu-system-common)"
        tell_once("files", "protocol", text, how.warn)

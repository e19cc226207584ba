"""What `do` settles before a guest is started: which hypervisor, and the kernel that it boots."""

from __future__ import annotations

import os

from casemate.errors import HostError
from casemate.guest import store
from casemate.hypervisor import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.runtime.sandbox import Start

_TOLD = "told-hypervisor"


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
    if choice.by_probe:
        _tell_once(choice, how)


def _tell_once(choice: registry.Choice, how: Start) -> None:
    """A later start tells it again only if the choice is another."""
    name = choice.hypervisor.name
    path = f"{store.prepare()}/{_TOLD}"
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == name:
                return
    except FileNotFoundError:
        pass
    how.warn(f"guests are run by {name}: {choice.why} (said once; --hypervisor names another, `casemate doctor` shows all)")
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as out:
        out.write(name)
    os.rename(temporary, path)

"""Whether a guest's root is an image of its directory: what `do` and the SDK settle before a start. An OCI container's is one by its annotation only."""

from __future__ import annotations

from casemate.errors import HostError
from casemate.guest import images
from casemate.guest.told import tell_once
from casemate.hypervisor import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AUTO = "auto"


def choose(mode: str, rootfs: str, annotations: dict[str, str], warn: Callable[[str], None]) -> None:
    """Notes in the annotations how the guest gets its root. AUTO: from an image where that is sooner and possible; why not is told once.

    Raises HostError, UsageError.
    """
    if mode != AUTO:
        images.disk_size(mode)
        annotations[images.ANNOTATION] = mode
        return
    if not registry.choose(annotations.get(registry.ANNOTATION, "")).hypervisor.is_faster_by_images:
        return
    try:
        images.find_or_make(rootfs)
    except HostError as error:
        text = f"the guest's root is the host's directory, not an image of it: {error.reason} (said once; {error.remedy})"
        tell_once("root", error.reason, text, warn)
        return
    annotations[images.ANNOTATION] = "memory"

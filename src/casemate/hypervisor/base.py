"""What a hypervisor's driver tells: the interface that the isolation is written against."""

from __future__ import annotations

import os

from casemate.errors import HostError

# How the guest gets the containers' files, where that is not the hypervisor's own way. protocol: over the agent's stream. none: it gets none.
SHARES = ("protocol", "none")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.guest.kernels import Kernel
    from casemate.isolation.base import Verdict


class Machine:
    """How to start one. Paths in `helpers` and `command` are those of the jail: /usr is the host's, /guest/NAME what `files` gives, /share the containers'.

    files: name to path on the host.   share: how the guest mounts /share ("virtiofs" or "protocol"; "" if it has none).
    devices: path in the jail to the path on the host.   disks: name, path on the host and whether it is written, of further files.
    helpers: run as the container's root, with a file server's capabilities; in a word {listen:PATH} becomes the descriptor of a socket that listens there.
    file_server: of the sockets of the helper that serves files, where the hypervisor looks for it and where it is, if those are two.
    card: for each tap of the machine's network, further words of the command, or what a restored machine's monitor is told, if it takes `orders`; {place},
    {tap}, {mac} and {mtu} become the tap's.   card_header: its frames come with what is left to the other side of checksums and segments (virtio_net_hdr).
    traces: it runs the guest's programs as processes that it traces.   restored: it was booted before, and is what its monitor is told once it runs.
    orders: what its monitor is told at the start.
    documents: name to text; as a word of the command, {document:NAME} becomes a path where it is read.
    opened: name to path on the host; {opened:NAME} becomes the number of its descriptor, open for reading and writing.   needs_programs: of the host, in /usr.
    """

    __slots__ = (
        "boot_timeout_s",
        "card",
        "card_header",
        "command",
        "devices",
        "disks",
        "documents",
        "environment",
        "file_server",
        "files",
        "helpers",
        "link_window",
        "needs_programs",
        "opened",
        "orders",
        "restored",
        "share",
        "traces",
    )

    def __init__(self, command: list[str], *, share: str, files: dict[str, str]) -> None:
        self.command = command
        self.share = share
        self.files = files
        self.helpers: list[list[str]] = []
        self.file_server: tuple[str, str] | None = None
        self.traces = False
        self.card: list[str] = []
        self.card_header = True
        self.environment = ["PATH=/usr/sbin:/usr/bin", "TMPDIR=/tmp", "HOME=/tmp"]
        self.devices: dict[str, str] = {}
        self.disks: list[tuple[str, str, bool]] = []
        self.documents: dict[str, str] = {}
        self.opened: dict[str, str] = {}
        self.needs_programs = True
        self.boot_timeout_s = 60
        self.restored: list[str] | None = None
        self.orders: list[str] = []
        self.link_window = 0  # bytes that may be under way to the guest at a time; 0: as many as its stream takes

    def open(self) -> list[int]:
        """Opens `documents` and `opened`, puts them into the command, and returns the descriptors, which the caller closes. Raises HostError."""
        descriptors: list[int] = []
        words: dict[str, str] = {}
        try:
            for name, text in self.documents.items():  # one that came before may be named by one that comes after
                for word, place in words.items():
                    text = text.replace(word, place)
                descriptors.append(_document(name, text))
                words[f"{{document:{name}}}"] = f"/proc/self/fd/{descriptors[-1]}"
            for name, path in self.opened.items():
                descriptors.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
                words[f"{{opened:{name}}}"] = str(descriptors[-1])
        except OSError as error:
            for fd in descriptors:
                os.close(fd)
            raise HostError(f"{error.filename}: {error.strerror}") from None
        self.command = [words.get(word, word) for word in self.command]
        return descriptors


def _document(name: str, text: str) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, text.encode())
    return fd


class Hypervisor:
    """A driver. Stateless."""

    name = ""
    is_faster_by_images = False  # than by its own way to show files: then a root is an image where nobody loses anything by it
    merit = ""  # why it is taken before the hypervisors after it

    def probe(self) -> Verdict:
        """Whether this host can run it. Cheap: called at each create."""
        raise NotImplementedError

    def remark(self) -> str:
        """For `casemate doctor`, of one that can run."""
        return ""

    def kernel_to_install(self) -> str:
        """The argument of `casemate kernel install` that is all this host lacks for it; "" if nothing is lacking, or more is."""
        raise NotImplementedError

    def network(self) -> Verdict:
        """Whether its machines can have network cards."""
        from casemate.isolation.base import Verdict

        return Verdict(True)

    def machine(self, memory_mib: int, share: str = "", *, has_cards: bool = False, maps_image: bool = False) -> Machine:
        """A machine with so much memory. share: "" for the hypervisor's own way to show files, else one of SHARES. has_cards: with a network card for each tap
        that there will be, which `network` says whether it can have. maps_image: `map_image` will be asked for. Raises HostError if a part is missing.
        """
        raise NotImplementedError

    def plug(self, machine: Machine, name: str, source: str, *, writable: bool = False) -> str:
        """Gives the machine a disk, and returns its name in the guest: `serial:NAME`, or the device's. Raises HostError if it takes none."""
        raise HostError(f"hypervisor {self.name!r} gives its machines no disks", "leave out --root-image")

    def map_image(self, machine: Machine, name: str, source: str) -> str:
        """Gives the machine a file as memory that it only reads, and returns its name in the guest: `mapped:DEVICE`. Raises HostError if it cannot."""
        raise HostError(f"machines of the hypervisor {self.name!r} map no images", "name another with --hypervisor, or leave out +dax")


class OfKernels(Hypervisor):
    """A driver whose machines boot a kernel of the store."""

    def probe(self) -> Verdict:
        verdict = self.host()
        return self.without_kernel() if verdict.ok and self.kernel() is None else verdict

    def kernel_to_install(self) -> str:
        from casemate.guest import kernels

        return kernels.CLOUD if self.host().ok and self.kernel() is None else ""

    def network(self) -> Verdict:
        from casemate.isolation.base import Verdict

        kernel = self.kernel()
        if kernel is None or kernel.has("virtio_net"):
            return Verdict(True)
        return Verdict(False, "the installed kernel has no module for network cards", f"run `casemate kernel install {kernel.name}` again")

    def host(self) -> Verdict:
        """Whether this host can run it, kernels apart."""
        raise NotImplementedError

    def kernel(self) -> Kernel | None:
        """What its machines boot here; None if that is not there."""
        from casemate.guest import kernels

        return kernels.preferred()

    def without_kernel(self) -> Verdict:
        from casemate.guest import kernels
        from casemate.isolation.base import Verdict

        return Verdict(False, "there is no kernel for it", f"run `casemate kernel install {kernels.CLOUD}`")


def check_maps_images(kernel: Kernel) -> None:
    """Raises HostError for a kernel that does not take files as memory."""
    if not kernel.maps_images():
        again = "install" if kernel.modules else "build"
        raise HostError(f"the kernel {kernel.name!r} maps no images", f"run `casemate kernel {again} {kernel.name}` again, or leave out +dax")

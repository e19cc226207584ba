"""Kernels of the store: what `casemate kernel` installs or builds, lists and verifies, and what hypervisors boot.

A kernel is a directory, `kernels/NAME`: the uncompressed `vmlinux`, the modules in the order they are loaded in (none in one that we build, which has its
`config` instead), and `kernel.json` with the digest of each. It appears by rename, whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile

from casemate import jsonlite
from casemate.errors import HostError
from casemate.guest import store
from casemate.guest.bzimage import uncompressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METADATA = "kernel.json"
CLOUD_PACKAGE = "linux-image-cloud-amd64"
# What guests boot, the first that is installed: ours is booted in half of the distribution's time (docs/decisions/2026-11-28-kernel-of-ours.md).
OURS, CLOUD = "casemate", "cloud"
# Where KVM has no virtualisation in the processor behind it and emulates guests' kernels (docs/decisions/2026-11-28-linux-on-kvm.md).
POOR_KVM = "poor-kvm"
# What a machine's devices need, each after what it depends on (modules.dep). Built in where there is no such file.
_MODULES = (
    "drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci", "drivers/virtio/virtio_mmio", "drivers/char/virtio_console", "fs/fuse/fuse", "fs/fuse/virtiofs",
    "drivers/block/virtio_blk", "lib/libcrc32c", "fs/erofs/erofs", "fs/overlayfs/overlay",
    "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net",
)  # fmt: skip
# Further ones for machines that map the image of their root, which no other waits for at its boot.
_MAPPING = ("drivers/nvdimm/libnvdimm", "drivers/nvdimm/nd_virtio", "drivers/nvdimm/virtio_pmem", "drivers/nvdimm/nd_btt", "drivers/nvdimm/nd_pmem")


class Kernel:
    """One kernel of the store."""

    __slots__ = ("_mapping", "modules", "name", "path", "recipe", "release", "steps")

    def __init__(self, path: str, metadata: dict[str, object]) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.release = str(metadata.get("release"))
        self.recipe = str(metadata.get("recipe", ""))  # what it was built from; empty: it was not built here
        steps = metadata.get("steps")
        self.steps = steps if isinstance(steps, int) else 0  # files that its build made
        names = metadata.get("modules")
        modules = [f"{path}/{name}" for name in names] if isinstance(names, list) else []
        self._mapping = [module for module in modules if any(module.endswith(f"-{os.path.basename(name)}.ko") for name in _MAPPING)]
        self.modules = [module for module in modules if module not in self._mapping]

    def has(self, module: str) -> bool:
        """Whether this module is there; of a kernel that has any."""
        return not self.modules or any(path.endswith(f"-{module}.ko") for path in self.modules)

    def loads(self, *, maps_image: bool = False) -> tuple[str, list[str]]:
        """For its initial file system: a label, and the modules in the order they are loaded in."""
        return (f"{self.name}dax", self.modules + self._mapping) if maps_image else (self.name, self.modules)

    def maps_images(self) -> bool:
        """Whether it takes a file of the host's as memory. One that was installed or built some time ago may lack what that takes."""
        if self.modules:
            return len(self._mapping) == len(_MAPPING)
        try:
            with open(f"{self.path}/config", encoding="utf-8") as file:
                return "CONFIG_NVDIMM_PFN=y\n" in file.read()
        except FileNotFoundError:
            return False

    @property
    def image(self) -> str:
        return f"{self.path}/vmlinux"


def _directory() -> str:
    return f"{store.directory()}/kernels"


def find(name: str) -> Kernel | None:
    """The kernel of this name; None if it is not installed."""
    path = f"{_directory()}/{name}"
    metadata = _metadata(path)
    return None if metadata is None else Kernel(path, metadata)


def preferred() -> Kernel | None:
    """The kernel that guests boot; None if there is none for them."""
    return find(OURS) or find(CLOUD)


def names() -> list[str]:
    """The kernels of the store, sorted."""
    try:
        return sorted(name for name in os.listdir(_directory()) if not name.startswith("."))
    except FileNotFoundError:
        return []


def _metadata(path: str) -> dict[str, object] | None:
    try:
        with open(f"{path}/{_METADATA}", "rb") as file:
            value = jsonlite.loads(file.read())
    except (OSError, jsonlite.JsonError):
        return None
    return value if isinstance(value, dict) else None


def verify(kernel: Kernel) -> list[str]:
    """What of a kernel is not as it was installed; empty if all is."""
    metadata = _metadata(kernel.path) or {}
    digests = metadata.get("sha256")
    if not isinstance(digests, dict):
        return [f"{_METADATA} names no digests"]
    wrong = []
    for name, digest in digests.items():
        try:
            found = _sha256(f"{kernel.path}/{name}")
        except OSError as error:
            wrong.append(f"{name}: {error.strerror}")
            continue
        if found != digest:
            wrong.append(f"{name}: its content is another")
    return wrong


def install_cloud(say: Callable[[str], None]) -> Kernel:
    """Puts the distribution's cloud kernel into the store, by its package manager. Raises HostError."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise HostError(
                f"there is no {program}", "on other distributions than Debian's, name a bzImage: casemate kernel install --image FILE --modules DIR"
            )
    package = _dependency(CLOUD_PACKAGE)
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # apt downloads as a user of its own
        say(f"downloading {package}")
        _run(["apt-get", "-qq", "download", package], scratch)
        archive = next(name for name in os.listdir(scratch) if name.endswith(".deb"))
        say("unpacking")
        _run(["dpkg-deb", "-x", archive, "root"], scratch)
        release = package.removeprefix("linux-image-")
        return install_image(CLOUD, f"{scratch}/root/boot/vmlinuz-{release}", f"{scratch}/root/lib/modules/{release}", release, say)


def _dependency(package: str) -> str:
    """The newest kernel's package, which the given one depends on."""
    for line in _run(["apt-cache", "depends", package], "/").splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends":
            return name.strip()
    raise HostError(f"apt knows no {package}", "run apt-get update")


def _run(command: list[str], directory: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"{command[0]}: {done.stderr.strip()}", "run apt-get update")
    return done.stdout


def install_image(name: str, image: str, modules: str, release: str, say: Callable[[str], None]) -> Kernel:
    """Puts a kernel's image and those of its modules that guests need into the store, in place of what has that name. Raises HostError."""
    metadata: dict[str, object] = {"release": release}

    def fill(directory: str) -> list[str]:
        say("extracting the uncompressed image: what boots it need not")
        with open(image, "rb") as file, open(f"{directory}/vmlinux", "wb") as target:
            target.write(uncompressed(file.read()))
        copied = _copy_modules(modules, directory)
        metadata["modules"] = copied
        return ["vmlinux", *copied]

    return put(name, metadata, fill)


def put(name: str, metadata: dict[str, object], fill: Callable[[str], list[str]]) -> Kernel:
    """Makes a kernel of what `fill` writes into a directory and names, in place of what has that name. Whole or not at all."""
    directory = _directory()
    os.makedirs(directory, 0o755, exist_ok=True)
    with _scratch(name) as scratch:
        made = f"{scratch}/new"
        os.mkdir(made)
        os.chmod(made, 0o755)  # whatever the caller's mask is: hypervisors are nobody's
        files = fill(made)
        digests = {file: _sha256(f"{made}/{file}") for file in files}
        with open(f"{made}/{_METADATA}", "w", encoding="utf-8") as out:
            out.write(jsonlite.dumps({**metadata, "sha256": digests}, indent=1))
        path = f"{directory}/{name}"
        if os.path.isdir(path):
            os.rename(path, f"{scratch}/old")
        os.rename(made, path)
    kernel = find(name)
    assert kernel
    return kernel


def remove(name: str) -> None:
    """Takes a kernel out of the store. It is gone at once, for a start that looks; a machine that runs has it in its memory."""
    with _scratch(name) as gone:
        os.rename(f"{_directory()}/{name}", f"{gone}/{name}")


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[str]:
    """A directory beside the kernels that ends with the block. One whose lock nobody holds was left by somebody who was killed, and goes, too."""
    directory = _directory()
    for entry in os.listdir(directory):
        if entry.startswith(".") and (left := _locked(f"{directory}/{entry}", wait=False)) >= 0:
            shutil.rmtree(f"{directory}/{entry}", ignore_errors=True)
            os.close(left)
    while True:
        path = tempfile.mkdtemp(prefix=f".{name}-", dir=directory)
        lock = _locked(path, wait=True)
        if os.path.isdir(path):
            break
        if lock >= 0:
            os.close(lock)
        # Somebody took it for what was left, before it had its lock.
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _locked(path: str, *, wait: bool) -> int:
    """The descriptor that holds a directory's lock; -1 if it is somebody's, or gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _copy_modules(source: str, target: str) -> list[str]:
    copied = []
    for index, module in enumerate(_MODULES + _MAPPING):
        path = f"{source}/kernel/{module}.ko"
        if os.path.exists(path):
            name = f"{index:02}-{os.path.basename(path)}"
            shutil.copyfile(path, f"{target}/{name}")
            copied.append(name)
    return copied


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

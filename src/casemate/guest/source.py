"""The source that a kernel is built from: Debian's package, fetched and checked by its package manager, or an archive that somebody names."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile

from casemate.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "linux-source-6.1"
_NAME_IT = "name the source: casemate kernel build --source linux-6.1.N.tar.xz"
# Other processors' code, text, and a graphics card's register numbers are half of it, and nothing of ours is made of them. What Kconfig reads stays.
_LEFT_OUT = ("*/arch/[!x]*/*.[chS]", "*/arch/[!x]*/*.dts*", "*/Documentation/*/*", "*/drivers/gpu/drm/amd/include/*", "*/tools/testing/*")
_NEEDED_BYTES = 2_500_000_000
_SCRATCH = ".source-"


class Source:
    """A version of Linux' source. archive: its tar file; "" for Debian's, which is fetched when it is needed."""

    __slots__ = ("archive", "label", "version")

    def __init__(self, version: str, label: str, archive: str = "") -> None:
        self.version = version
        self.label = label
        self.archive = archive


def debian() -> Source:
    """The newest that apt knows. Raises HostError."""
    for program in ("apt-cache", "apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise HostError(f"there is no {program}", f"on other distributions than Debian's, {_NAME_IT}")
    for line in _run(["apt-cache", "show", "--no-all-versions", PACKAGE], "/", "run apt-get update").splitlines():
        name, _, value = line.partition(": ")
        if name == "Version":
            return Source(value.strip(), f"{PACKAGE} {value.strip()}")
    raise HostError(f"apt knows no {PACKAGE}", f"run apt-get update on Debian 12, or {_NAME_IT}")


def from_archive(path: str) -> Source:
    """An archive of Linux, known by its content. Raises HostError."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from None
    return Source(digest[:16], f"{os.path.basename(path)} sha256:{digest}", os.path.abspath(path))


def unpacked(source: Source, cache: str, say: Callable[[str], None]) -> str:
    """The directory of the source in the cache; fetched and unpacked if it is not there. Raises HostError."""
    path = f"{cache}/linux-{source.version}"
    if os.path.isdir(path):
        return path
    for name in os.listdir(cache):
        if name.startswith(_SCRATCH):  # of a build that was killed: whoever builds is alone here
            shutil.rmtree(f"{cache}/{name}", ignore_errors=True)
    if shutil.disk_usage(cache).free < _NEEDED_BYTES:
        raise HostError(f"{cache} has less than {_NEEDED_BYTES / 1e9:g} GB left", "make room, or name another store by CASEMATE_GUEST")
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=cache) as scratch:
        os.chmod(scratch, 0o755)  # apt downloads as a user of its own
        archive = source.archive or _fetch(source, scratch, say)
        say("unpacking")
        os.mkdir(f"{scratch}/tree")
        words = ["tar", "-x", "-f", archive, "-C", f"{scratch}/tree", "--strip-components=1", "--no-same-owner"]
        _run([*words, "--anchored", *(f"--exclude={pattern}" for pattern in _LEFT_OUT)], scratch, "is it an archive of Linux?")
        if not os.path.exists(f"{scratch}/tree/Kconfig"):
            raise HostError(f"{archive} is no source of Linux", "name one as kernel.org has it")
        os.rename(f"{scratch}/tree", path)
    return path


def _fetch(source: Source, scratch: str, say: Callable[[str], None]) -> str:
    say(f"downloading {source.label} (140 MB)")
    _run(["apt-get", "-qq", "download", f"{PACKAGE}={source.version}"], scratch, "run apt-get update")
    package = next(name for name in os.listdir(scratch) if name.endswith(".deb"))
    _run(["dpkg-deb", "-x", package, "package"], scratch, "run apt-get update")
    os.unlink(f"{scratch}/{package}")
    return f"{scratch}/package/usr/src/{PACKAGE}.tar.xz"


def _run(command: list[str], directory: str, remedy: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"{command[0]}: {done.stderr.strip()[-500:]}", remedy)
    return done.stdout

"""A directory as an image that guests have as their root: EROFS, read-only, one for all guests of it.

An image is named by a digest of the tree's metadata. The kernel sets an inode's ctime at each change of its content, owner, mode or name, and nobody else can
set it: a tree with the same paths, inodes and ctimes has the same content, without a look at it. What a guest writes is a layer over it, in the guest's
memory or on a disk that ends with the machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess

from casemate.errors import HostError, UsageError
from casemate.guest import store

ANNOTATION = "dev.casemate.root-image"
MODES = "no, memory, or the size of a disk as 4G, the last two also with +dax"
# Behind one of the last two: the guest maps the image as memory (virtio-pmem) and has the host's pages of it, none of its own.
_MAPPED = "+dax"
MAKE = "mkfs.erofs"
_MAKE_DISK = "mkfs.ext4"
_CHECK = "fsck.erofs"
# One inode form for all (the short one has neither times nor large ids), and no data beside inodes: such a page could not be mapped from memory (DAX).
_FORM = ["--preserve-mtime", "-Eforce-inode-extended,noinline_data"]
# Linux maps memory of devices in such pieces (SUBSECTION_SIZE); a file that is mapped as one has as many, whole.
_PIECE = 2 << 20
NEW = ".new"  # what is being made has a name that ends so
_DISK = ".disk-"
# What is mapped has 64 bytes of the guest's own memory for each page: a machine gets these for it, and a larger image is none to map.
MOST_MAPPED = 1 << 30
MAPPED_COSTS_MIB = MOST_MAPPED >> 6 >> 20
_KEPT = 8
_KEPT_BYTES = 8 << 30
_LEAST_DISK = 16 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NEWEST_TRIES = 2
_SUPERBLOCK, _MAGIC = 1024, 0xE0F5E1E2  # fs/erofs/erofs_fs.h
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ORIGIN = "user.casemate.origin"  # an attribute of an image's file: the directory that it was made of, for who lists them

_found: dict[str, str] = {}  # tree to image: a start asks twice, for the caller to be told and for the machine


def disk_size(mode: str) -> int | None:
    """What a mode asks for: None without an image, 0 with a layer in memory, else the bytes of the layer's disk. Raises UsageError."""
    if mode in ("", "no"):
        return None
    layer = mode.removesuffix(_MAPPED)
    if layer == "memory":
        return 0
    found = re.fullmatch(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", layer)
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not _LEAST_DISK <= size < 1 << 44:
        raise UsageError(f"root image: expected {MODES} (16M at least), got {mode!r}")
    return size


def is_mapped(mode: str) -> bool:
    """Whether the guest is to map its image."""
    return mode.endswith(_MAPPED)


def why_not() -> str:
    """What this host lacks for images; "" if nothing."""
    return "" if program_path(MAKE) else f"there is no {MAKE} (Debian's package erofs-utils)"


def find_or_make(tree: str) -> str:
    """The path of the image of a directory as it is now; made if there is none. Raises HostError."""
    tree = os.path.realpath(tree)
    if tree in _found:
        return _found[tree]
    _refuse_mounts(tree)
    directory = f"{store.prepare()}/images"
    os.makedirs(directory, 0o700, exist_ok=True)
    path = f"{directory}/{fingerprint(tree)}.erofs"
    if not _is_whole(path):
        path = _make(tree, directory)
    _found[tree] = path
    return path


def origin(path: str) -> str:
    """The directory that an image was made of; "" for what does not say."""
    try:
        return os.fsdecode(os.getxattr(path, _ORIGIN))
    except OSError:
        return ""


def fingerprint(tree: str) -> str:
    """The digest that an image of this directory is named by. Raises HostError."""
    digest = hashlib.sha256(f"{_FORM} {_PIECE} {os.geteuid() == 0} {tree}\0".encode(errors="surrogateescape"))
    pending = [""]
    try:
        _note(digest, "", os.lstat(tree))
        while pending:
            below = pending.pop()
            with os.scandir(tree + below) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = f"{below}/{entry.name}"
                    _note(digest, path, entry.stat(follow_symlinks=False))
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
    except OSError as error:
        raise HostError(f"{tree} cannot be read for an image: {error}", "leave out --root-image") from None
    return digest.hexdigest()[:40]


def _note(digest: hashlib._Hash, path: str, status: os.stat_result) -> None:
    fields = (
        status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_rdev,
        status.st_nlink,
    )  # fmt: skip
    digest.update(f"{path}\0{fields}".encode(errors="surrogateescape"))


def refuse_to_map(path: str) -> None:
    """Raises HostError for an image that is too large to be mapped."""
    size = os.path.getsize(path)
    if size > MOST_MAPPED:
        raise HostError(f"an image of {size >> 20} MiB is not mapped: a guest has {MAPPED_COSTS_MIB} MiB to describe its pages in", "leave out +dax")


def make_disk(size: int, owner: tuple[int, int]) -> str:
    """A disk for a layer, sparse. Its name goes as soon as the machine has opened it: so it ends with the machine, however that ends. Raises HostError."""
    program = program_path(_MAKE_DISK)
    if not program:
        raise HostError(f"there is no {_MAKE_DISK}", "install e2fsprogs, or keep what is written in memory (--root-image=memory)")
    directory = f"{store.prepare()}/images"
    os.makedirs(directory, 0o700, exist_ok=True)
    remove_orphans(directory)
    path = f"{directory}/{_DISK}{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
        # No journal: a machine that crashed is not started again.
        run([program, "-q", "-F", "-m0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", path])
        os.fchown(fd, *owner)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return path


def remove_orphans(directory: str) -> None:
    """Disks of starts that were killed before their machine had opened it."""
    for name in os.listdir(directory):
        if name.startswith(_DISK) and not os.path.exists(f"/proc/{name.removeprefix(_DISK)}"):
            os.unlink(f"{directory}/{name}")


def _refuse_mounts(tree: str) -> None:
    """What is mounted below would be copied into the image, and not be noticed when it changes."""
    if tree == "/":
        raise HostError("the root of the host cannot be an image", "leave out --root-image")
    inside = f"{tree}/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[4] for line in file]
    below = next((point for point in points if point.startswith(inside)), "")
    if below:
        raise HostError(f"{tree} cannot be an image: {below} is mounted there", "leave out --root-image, or bind what is mounted")


def _make(tree: str, directory: str) -> str:
    """Makes the image, under a lock: of many starts one does it. It appears by rename, once the tree was the same before and after."""
    program = program_path(MAKE)
    if not program:
        raise HostError(why_not(), "apt-get install erofs-utils")
    lock = os.open(f"{directory}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Of this maker's: what a killed one has started may go on writing to its own.
    temporary = f"{directory}/.{os.getpid()}{NEW}"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_unfinished(directory)
        for _ in range(_NEWEST_TRIES):
            name = fingerprint(tree)
            path = f"{directory}/{name}.erofs"
            if _is_whole(path):
                return path
            _write(program, tree, name, temporary)
            if fingerprint(tree) == name:
                os.rename(temporary, path)
                _forget_older(directory, path)
                return path
        raise HostError(f"{tree} changes while an image of it is made", "leave out --root-image")
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.close(lock)


def _remove_unfinished(directory: str) -> None:
    """What makers that were killed have left; nobody else is at work while we hold the lock."""
    for name in os.listdir(directory):
        if name.endswith(NEW):
            os.unlink(f"{directory}/{name}")


def _write(program: str, tree: str, name: str, path: str) -> None:
    # Without root's privileges a file of another owner would be one that the guest's root does not own.
    owners = [] if os.geteuid() == 0 else ["--all-root"]
    uuid = f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:32]}"  # of the tree, not of the moment: the same tree makes the same bytes
    run([program, "--quiet", *_FORM, *owners, f"-U{uuid}", path, tree])
    check = program_path(_CHECK)
    if check:
        run([check, path])
    os.truncate(path, -(-os.path.getsize(path) // _PIECE) * _PIECE)
    try:
        os.setxattr(path, _ORIGIN, os.fsencode(tree))
    except OSError:
        pass  # a file system without attributes, or a very long path: the image is as good without
    # The hypervisor's ids are nobody's: the directory is closed to others instead.
    os.chmod(path, 0o444)


def run(command: list[str]) -> None:
    """One of the programs that make images. Raises HostError with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"PATH": _PATH}, check=False)
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()[-300:]
        raise HostError(f"{os.path.basename(command[0])} failed ({done.returncode}): {said}", "leave out --root-image")


def program_path(name: str) -> str:
    """Where the system has it; "" if nowhere."""
    return next((path for place in _PATH.split(":") if os.access(path := f"{place}/{name}", os.X_OK)), "")


def _is_whole(path: str) -> bool:
    """Whether it is there, with as many blocks as its superblock says; then it was used now. Another is made in place of one that was cut off."""
    try:
        with open(path, "rb") as file:
            file.seek(_SUPERBLOCK)
            head = file.read(40)
            size = os.fstat(file.fileno()).st_size
        os.utime(path)
    except (FileNotFoundError, PermissionError):
        return False
    blocks, bits = int.from_bytes(head[36:40], "little"), head[12] if len(head) == 40 else 0
    return int.from_bytes(head[:4], "little") == _MAGIC and blocks > 0 and blocks << bits <= size


def _forget_older(directory: str, newest: str) -> None:
    """All but the last used few. A machine that runs keeps its image open."""
    paths = [f"{directory}/{name}" for name in os.listdir(directory) if name.endswith(".erofs")]
    total = 0
    for kept, path in enumerate(sorted(paths, key=lambda path: (path != newest, -os.stat(path).st_mtime_ns)), 1):
        total += os.stat(path).st_blocks * 512
        if path != newest and (kept > _KEPT or total > _KEPT_BYTES):
            os.unlink(path)

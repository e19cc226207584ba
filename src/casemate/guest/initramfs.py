"""A guest's first file system: the agent, and the modules that its kernel needs to hear the host. Made when either changes, kept by what it is made of."""

from __future__ import annotations

import os

from casemate.guest import store
from casemate.guest.cpio import Archive
from casemate.isolation.engine_process import engine_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AGENT = "casemate-agent"
_KEPT = 4
# Where the agent mounts before it has a root of its own (crates/guest-agent/src/boot.rs).
DIRECTORIES = ("dev", "proc", "run", "share", "sys", "tmp")


def initramfs(label: str, modules: list[str]) -> str:
    """The path of the archive for a kernel named `label`, which these module files are loaded into in order. Built if there is none of today's agent."""
    # A kernel that was installed anew has as many modules as before, for another release.
    installed = max((os.stat(module).st_mtime_ns for module in modules), default=0)

    def write(path: str) -> None:
        with open(path, "wb") as file:
            _write(Archive(file), engine_path(), modules)

    return kept(label, f"{installed:x}.cpio", write)


def kept(label: str, ending: str, write: Callable[[str], None]) -> str:
    """The path of a file of the store that holds today's agent; written if it is not there. It appears whole."""
    status = os.stat(engine_path())
    directory = f"{store.prepare()}/initramfs"
    path = f"{directory}/{label}-{status.st_size:x}-{status.st_mtime_ns:x}-{ending}"
    if os.path.exists(path):
        return path
    os.makedirs(directory, 0o755, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    _forget_older(directory, label, ending.rpartition(".")[2])
    return path


def maker(name: str) -> int:
    """Who makes the file of this name; 0 if it is whole."""
    ending = name.rpartition(".")[2]
    return int(ending) if ending.isdecimal() else 0


def _write(archive: Archive, engine: str, modules: list[str]) -> None:
    for name in (*DIRECTORIES, "modules"):
        archive.directory(name)
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3, 0o666)
    with open(engine, "rb") as file:
        archive.regular(AGENT, file.read(), 0o755)
    for index, module in enumerate(modules):
        with open(module, "rb") as file:
            archive.regular(f"modules/{index:03}-{os.path.basename(module)}", file.read())
    archive.finish()


def _forget_older(directory: str, label: str, kind: str) -> None:
    """All but the newest few: another installation's agent, or one that was just replaced, may be about to be booted. And what killed makers have left."""
    names = os.listdir(directory)
    paths = [f"{directory}/{name}" for name in names if name.startswith(f"{label}-") and name.endswith(f".{kind}")]
    try:
        for name in names:
            if maker(name) and not os.path.exists(f"/proc/{maker(name)}"):
                os.unlink(f"{directory}/{name}")
        for path in sorted(paths, key=lambda path: os.stat(path).st_mtime_ns, reverse=True)[_KEPT:]:
            os.unlink(path)
    except FileNotFoundError:
        pass  # another start does the same

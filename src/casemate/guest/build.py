"""`casemate kernel build`: Linux from source, with a configuration of ours, into the store.

The same source, compiler and configuration make the same bytes, wherever and by whomever; a kernel that was built from them already is not built again.
What an interrupted build has made is gone on with.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque

from casemate.errors import HostError
from casemate.guest import configuration, kernels, pvm, source, store
from casemate.guest.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What a build runs or reads, and the package of Debian's that has it.
_PROGRAMS = (
    ("gcc", "gcc"), ("ld", "binutils"), ("make", "make"), ("bc", "bc"), ("flex", "flex"), ("bison", "bison"), ("perl", "perl"), ("tar", "tar"),
    ("xz", "xz-utils"),
)  # fmt: skip
_HEADERS = (("stdio.h", "libc6-dev"), ("gelf.h", "libelf-dev"))
_INCLUDE = "/usr/include"
# Part of what a kernel is known by: to be raised where the steps below change what comes out.
_RECIPE = "1"
# What make says of itself, and what it makes: no reason why it failed.
_USUAL = re.compile(r"make(\[\d+\])?: |  [A-Z][A-Z0-9_]* ")
_TOLD = 8  # last lines of the others that an error tells


def missing() -> list[str]:
    """The packages whose programs or headers a build lacks here."""
    programs = [package for program, package in _PROGRAMS if shutil.which(program) is None]
    return programs + [package for header, package in _HEADERS if not os.path.exists(f"{_INCLUDE}/{header}")]


def build(
    name: str, fragments: list[str], origin: source.Source, say: Callable[[str], None], *, jobs: int = 0, keep: bool = False
) -> tuple[kernels.Kernel, bool]:
    """The kernel of this name in the store, and whether it had to be built. Raises HostError.

    fragments: files of options that change our configuration.   keep: source and objects stay in the cache for a next build.
    """
    lacking = missing()
    if lacking:
        raise HostError(f"a build lacks {', '.join(lacking)}", f"as root: apt-get install {' '.join(lacking)}, or give --yes")
    variant = [configuration.VARIANTS[name]] if name in configuration.VARIANTS else []
    options = configuration.merged([configuration.FRAGMENT, *variant, *fragments])
    compiler = _line(["gcc", "--version"])
    steps = [_RECIPE, pvm.RECIPE] if name == kernels.POOR_KVM else [_RECIPE]
    recipe = hashlib.sha256("\0".join([*steps, origin.label, compiler, configuration.rendered(options)]).encode()).hexdigest()
    cache = f"{store.prepare()}/cache"
    os.makedirs(cache, 0o755, exist_ok=True)
    with _Lock(cache, say):
        before = kernels.find(name)
        if before and before.recipe == recipe and not kernels.verify(before):
            return before, False
        tree = source.unpacked(origin, cache, say)
        objects = f"{cache}/objects-{recipe[:16]}"
        os.makedirs(objects, 0o755, exist_ok=True)
        environment = _environment(tree)
        _configure(tree, objects, options, environment)
        progress = Progress(sys.stderr, before.steps if before else 0)
        say(f"building {origin.label}: {objects}/build.log")
        _make([f"-j{jobs or len(os.sched_getaffinity(0))}", "vmlinux"], tree, objects, environment, progress)
        facts = {"source": origin.label, "compiler": compiler, "recipe": recipe, "steps": max(progress.made, before.steps if before else 0)}
        kernel = _store(name, tree, objects, environment, facts)
        if not keep:
            shutil.rmtree(objects, ignore_errors=True)
            shutil.rmtree(tree, ignore_errors=True)
    return kernel, True


class _Lock:
    """Of builds at the same time, one builds and the others find it built."""

    def __init__(self, cache: str, say: Callable[[str], None]) -> None:
        self._fd = os.open(f"{cache}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build")
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _environment(tree: str) -> dict[str, str]:
    """Nothing of the caller's but where programs are, and nothing of today's (Documentation/kbuild/reproducible-builds.rst)."""
    epoch = int(os.stat(f"{tree}/Makefile").st_mtime)
    shown = time.strftime("%Y-%m-%d", time.gmtime(epoch))  # by uname -v
    return {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C", "HOME": "/nonexistent", "SOURCE_DATE_EPOCH": str(epoch),
        "KBUILD_BUILD_TIMESTAMP": shown, "KBUILD_BUILD_USER": "casemate", "KBUILD_BUILD_HOST": "casemate", "KBUILD_BUILD_VERSION": "1",
    }  # fmt: skip


def _configure(tree: str, objects: str, options: dict[str, str], environment: dict[str, str]) -> None:
    """Writes .config, if it is not the one of these options already: make would begin anew."""
    wanted = f"{objects}/wanted"
    if os.path.exists(f"{objects}/.config") and os.path.exists(wanted):
        return  # the directory is named by the options
    with open(f"{wanted}.new", "w", encoding="utf-8") as file:
        file.write(configuration.rendered(options))
    _make(["allnoconfig"], tree, objects, {**environment, "KCONFIG_ALLCONFIG": f"{wanted}.new"}, None)
    with open(f"{objects}/.config", encoding="utf-8") as file:
        lost = configuration.lost(options, configuration.parse(file.read()))
    if lost:
        raise HostError(f"Linux did not take the configuration: {'; '.join(lost)}", "change the fragment; another version of Linux may know other options")
    os.rename(f"{wanted}.new", wanted)


def _make(targets: list[str], tree: str, objects: str, environment: dict[str, str], progress: Progress | None) -> None:
    said: deque[str] = deque(maxlen=_TOLD)
    command = ["make", "-C", tree, f"O={objects}", *targets]
    with (
        open(f"{objects}/build.log", "a", encoding="utf-8") as log,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as made,
    ):
        assert made.stdout
        try:
            for raw in made.stdout:
                line = raw.decode(errors="replace")
                log.write(line)
                if progress:
                    progress.hear(line.replace(f"{objects}/", ""))  # tools say where they are from the root
                if not _USUAL.match(line):
                    said.append(line.strip())
        except BaseException:
            made.terminate()
            raise
        finally:
            if progress:
                progress.end()
    if made.returncode:
        raise HostError(f"make {targets[-1]} failed: {' | '.join(said)}", f"see {objects}/build.log")


def _store(name: str, tree: str, objects: str, environment: dict[str, str], facts: dict[str, object]) -> kernels.Kernel:
    release = _line(["make", "-s", "-C", tree, f"O={objects}", "kernelrelease"], environment)

    def fill(directory: str) -> list[str]:
        # Symbols are half of the file, and no guest's.
        image = f"{directory}/vmlinux"
        _line(["objcopy", "--strip-all", f"{objects}/vmlinux", image], may_be_empty=True)
        if name == kernels.POOR_KVM:
            with open(image, "rb") as built:
                elf = built.read()
            with open(image, "wb") as changed:
                changed.write(pvm.patched(elf))
        shutil.copyfile(f"{objects}/.config", f"{directory}/config")
        return ["vmlinux", "config"]

    return kernels.put(name, {"release": release, "modules": [], **facts}, fill)


def _line(command: list[str], environment: dict[str, str] | None = None, *, may_be_empty: bool = False) -> str:
    """The first line that a command prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not (lines or may_be_empty):
        raise HostError(f"{command[0]}: {done.stderr.strip()[-500:]}")
    return lines[0] if lines else ""

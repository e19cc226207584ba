"""The same program under each hypervisor: `do` with a root that holds python3. The first start makes what later ones have: the root's image, the template.

What they print has to be the same everywhere, to the byte. Our own monitor boots Linux here on a KVM that emulates its kernel: half a minute and more, once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bundle import CASEMATE, make_rootfs

from casemate.guest import kernels, store
from casemate.hypervisor import kvm, registry

Result = tuple[str, str, str]
BUILD_S = 3600
GUEST_S = 600
STARTS = 1
PYTHON = "/usr/bin/python3.11"
LIBRARY = "/usr/lib/python3.11"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "config-*", "dist-packages")

# Files of the root and of the layer over it, a bind, processes, a pipe, memory, time, exit codes.
PROGRAM = """
import os, subprocess, sys
print(os.uname().sysname, os.getpid(), os.getuid(), sys.argv[1:])
print(sorted(os.listdir("/")), sorted(os.environ))
print(open("/file").read(), end="")
open("/file", "a").write("of the guest\\n"); os.rename("/file", "/renamed"); print(open("/renamed").read(), end="")
print(subprocess.run(["sh", "-c", "echo $0; read line; echo $line; exit 7", "word"], input=b"line\\n", stdout=subprocess.PIPE))
print(open("/bound/in").read(), end=""); open("/bound/out", "w").write("of the guest, too\\n")
print(sum(range(1_000_000)), len(bytearray(4 << 20)))
print(open("/proc/self/status").read().split("Seccomp:")[1].split()[0], "error", file=sys.stderr)
sys.exit(3)
"""


def programs() -> Iterator[Result]:
    if kvm.verdict().ok and not kvm.is_real():
        subprocess.run([CASEMATE, "kernel", "build", kernels.POOR_KVM, "--yes"], check=True, timeout=BUILD_S)
    # Not below a temporary directory that a hypervisor's ids may not enter.
    with tempfile.TemporaryDirectory(dir=store.prepare()) as made:
        folder = Path(made)
        folder.chmod(0o755)
        root = python_root(folder / "root")
        expected: tuple[int, str, str, str] | None = None
        for name in registry.NAMES:
            title = f"a program of Python's under {name}"
            verdict = registry.get(name).probe()
            if not verdict.ok:
                yield title, verdict.reason, verdict.reason
                continue
            try:
                for number in range(STARTS + 1):
                    found, seconds = once(name, root, folder)
                    expected = expected or found
                    print(f"  {name}, start {number}: {seconds:.1f} s", flush=True)
                    assert found == expected, f"{found}, not {expected}"
            except (AssertionError, subprocess.TimeoutExpired) as error:
                yield title, str(error), ""
                continue
            yield title, "", ""


def once(hypervisor: str, root: Path, folder: Path) -> tuple[tuple[int, str, str, str], float]:
    """What it printed and left, and how long that took."""
    bound = folder / "bound"
    shutil.rmtree(bound, ignore_errors=True)
    bound.mkdir(mode=0o777)
    bound.chmod(0o777)
    (bound / "in").write_text("of the host\n")
    # What a guest has of memory is what its boot takes longest over where KVM emulates.
    options = ["--memory=64M", f"--hypervisor={hypervisor}", f"--rootfs={root}", "--root-image=memory", f"--bind={bound}:/bound"]
    words = [CASEMATE, "--root", str(folder / "state"), "do", "--isolation=microvm", *options, "--", PYTHON, "-c", PROGRAM, "a", "b c"]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=GUEST_S, check=False)
    seconds = time.monotonic() - began
    said = "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("casemate: "))
    out = bound / "out"
    return (done.returncode, done.stdout, said, out.read_text() if out.exists() else done.stderr[-300:]), seconds


def python_root(root: Path) -> Path:
    """A root with this distribution's python3 and what it links against."""
    make_rootfs(root)
    (root / "file").write_text("of the root\n")
    files = [PYTHON, *linked(PYTHON)]
    for library in Path(LIBRARY, "lib-dynload").glob("*.so"):
        files += linked(str(library))
    for file in {*files}:
        target = root / file[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(file), target)
    shutil.copytree(LIBRARY, root / LIBRARY[1:], ignore=LEFT_OUT)
    return root


def linked(file: str) -> list[str]:
    """The libraries that a program or library needs, as ldd has them."""
    said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]

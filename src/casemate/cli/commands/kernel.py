"""`casemate kernel install|build|list|verify|remove`: the Linux kernels that virtual machines boot."""

from __future__ import annotations

import os
import sys

from casemate.cli.options import FLAG, LIST, VALUE, Option, Parsed
from casemate.cli.verb import read
from casemate.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.guest.kernels import Kernel

HELP = (
    "Installs, builds, lists, verifies and removes the kernels that guests boot: `install cloud` (Debian's, for QEMU), `install uml` (User Mode Linux), or an "
    "image of yours; `build` (ours, from Debian's source: it boots in half the time), `build poor-kvm` (for `--hypervisor=casemate` where KVM emulates them)."
)
OPTIONS = [
    Option("image", VALUE, "install: this bzImage or vmlinux, in place of the distribution's", "FILE"),
    Option("modules", VALUE, "install: the directory of its modules (as /lib/modules/RELEASE)", "DIR"),
    Option("yes y", FLAG, "build: install the packages that it lacks, as root"),
    Option("config", LIST, "build: a further fragment of options (CONFIG_X=y), which changes ours; for a kernel with a NAME of yours", "FILE"),
    Option("source", VALUE, "build: this archive of Linux, in place of Debian's", "FILE"),
    Option("jobs j", VALUE, "build: as many compilers at once (default: as processors)", "N"),
    Option("keep", FLAG, "build: leave source and objects in the store (2 GB), for a next build"),
]
_UML_PACKAGE = "user-mode-linux"


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="kernel install|build|list|verify|remove [NAME]", help=HELP, least=1, most=2)
    if parsed is None:
        return 0
    action, name = parsed.arguments[0], parsed.arguments[1] if len(parsed.arguments) > 1 else ""
    if action == "install":
        print(install(name or "cloud", parsed.value("image"), parsed.value("modules")))
        return 0
    if action == "build":
        print(_build(name, parsed))
        return 0
    if action == "list" and not name:
        return _list()
    if action == "verify":
        return _verify(name)
    if action == "remove" and name:
        return _remove(name)
    raise UsageError(
        "usage: casemate kernel install [cloud|uml|NAME --image FILE --modules DIR], kernel build [NAME --config FILE], kernel list, kernel verify [NAME], or "
        "kernel remove NAME"
    )


def _say(text: str) -> None:
    print(f"casemate: {text}", file=sys.stderr)


def install(name: str, image: str = "", modules: str = "") -> str:
    """Installs a kernel and returns its line of `kernel list`. What it does is said on standard error. Raises HostError, UsageError."""
    from casemate.guest import kernels

    if name == "uml":
        return _install_uml()
    if image:
        kernel = kernels.install_image(name, os.path.abspath(image), os.path.abspath(modules or "/nonexistent"), name, _say)
    elif name == "cloud":
        kernel = kernels.install_cloud(_say)
    else:
        raise UsageError(f"kernel install {name}: name its image with --image, or install cloud or uml")
    return _row(kernel)


def _row(kernel: Kernel) -> str:
    return f"{kernel.name}\t{kernel.release}\t{kernel.path}"


def _build(name: str, parsed: Parsed) -> str:
    from casemate.guest import build, kernels, source

    fragments = [os.path.abspath(path) for path in parsed.list("config")]
    name = name or kernels.OURS
    if fragments and name == kernels.OURS:
        raise UsageError("kernel build --config: give the kernel a name of its own, for guests boot the one that is called casemate")
    if "/" in name or name.startswith(".") or name == kernels.CLOUD:
        raise UsageError(f"kernel build: {name!r} cannot be a kernel's name here")
    if name not in (kernels.OURS, kernels.POOR_KVM) and not fragments and not parsed.given("source"):
        raise UsageError(f"kernel build {name}: say what differs with --config, or build {kernels.OURS} or {kernels.POOR_KVM}")
    lacking = build.missing()
    if lacking and parsed.flag("yes"):
        _apt_install(lacking)
    archive = parsed.value("source")
    origin = source.from_archive(archive) if archive else source.debian()
    kernel, is_new = build.build(name, fragments, origin, _say, jobs=parsed.integer("jobs"), keep=parsed.flag("keep"))
    if not is_new:
        _say(f"{name} was built from this already")
    return _row(kernel)


def _apt_install(packages: list[str]) -> None:
    import subprocess

    if os.geteuid() != 0:
        raise HostError(f"{', '.join(packages)} cannot be installed by this user", f"as root: apt-get install {' '.join(packages)}")
    _say(f"installing {', '.join(packages)}")
    done = subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], stdout=sys.stderr, check=False)
    if done.returncode:
        raise HostError(f"apt-get install {' '.join(packages)} failed", "run apt-get update")


def _install_uml() -> str:
    from casemate.hypervisor.uml import PROGRAM

    if not os.access(PROGRAM, os.X_OK):
        _apt_install([_UML_PACKAGE])
    return f"uml\t{PROGRAM}"


def _list() -> int:
    from casemate.guest import kernels
    from casemate.hypervisor.uml import PROGRAM

    for name in kernels.names():
        kernel = kernels.find(name)
        print(_row(kernel) if kernel else f"{name}\tdamaged")
    if os.access(PROGRAM, os.X_OK):
        print(f"uml\t{PROGRAM}")
    return 0


def _verify(name: str) -> int:
    from casemate.guest import kernels

    if name and kernels.find(name) is None:
        raise UsageError(f"kernel verify: there is no kernel {name!r}; `casemate kernel list` shows those there are")
    failed = False
    for found in [name] if name else kernels.names():
        kernel = kernels.find(found)
        wrong = kernels.verify(kernel) if kernel else ["kernel.json cannot be read"]
        failed |= bool(wrong)
        print(f"{found}: " + ("; ".join(wrong) if wrong else "as it was installed"))
    return 1 if failed else 0


def _remove(name: str) -> int:
    from casemate.guest import kernels

    if name not in kernels.names():
        what = f"apt-get remove {_UML_PACKAGE} does that" if name == "uml" else "`casemate kernel list` shows those there are"
        raise UsageError(f"kernel remove: there is no kernel {name!r} in the store; {what}")
    kernels.remove(name)
    print(name)
    return 0

"""`casemate kernel install|list|verify`: the Linux kernels that virtual machines boot."""

from __future__ import annotations

import os
import sys

from casemate.cli.options import VALUE, Option
from casemate.cli.verb import read
from casemate.errors import UsageError

HELP = "Installs, lists and verifies the kernels that guests boot: `install cloud` (Debian's, for QEMU), `install uml` (User Mode Linux), or an image of yours."
OPTIONS = [
    Option("image", VALUE, "install: this bzImage or vmlinux, in place of the distribution's", "FILE"),
    Option("modules", VALUE, "install: the directory of its modules (as /lib/modules/RELEASE)", "DIR"),
]
_UML_PACKAGE = "user-mode-linux"


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="kernel install|list|verify [NAME]", help=HELP, least=1, most=2)
    if parsed is None:
        return 0
    action, name = parsed.arguments[0], parsed.arguments[1] if len(parsed.arguments) > 1 else ""
    if action == "install":
        print(install(name or "cloud", parsed.value("image"), parsed.value("modules")))
        return 0
    if action == "list" and not name:
        return _list()
    if action == "verify":
        return _verify(name)
    raise UsageError("usage: casemate kernel install [cloud|uml|NAME --image FILE --modules DIR], kernel list, or kernel verify [NAME]")


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
    return f"{kernel.name}\t{kernel.release}\t{kernel.path}"


def _install_uml() -> str:
    import subprocess

    from casemate.errors import HostError
    from casemate.hypervisor.uml import PROGRAM

    if not os.access(PROGRAM, os.X_OK):
        if os.geteuid() != 0:
            raise HostError(f"there is no {PROGRAM}", f"as root: apt-get install {_UML_PACKAGE}")
        _say(f"installing the package {_UML_PACKAGE}")
        done = subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", _UML_PACKAGE], stdout=sys.stderr, check=False)
        if done.returncode:
            raise HostError(f"apt-get install {_UML_PACKAGE} failed", "run apt-get update")
    return f"uml\t{PROGRAM}"


def _list() -> int:
    from casemate.guest import kernels
    from casemate.hypervisor.uml import PROGRAM

    for name in kernels.names():
        kernel = kernels.find(name)
        print(f"{name}\t{kernel.release}\t{kernel.path}" if kernel else f"{name}\tdamaged")
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

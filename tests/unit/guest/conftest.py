"""A host on which kernels are built in no time: programs that do what a build sees of the real ones, and a source of five files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Takes the configuration as it is given, but for what FAKE_LOSES names; makes one file a call; fails at FAKE_FAILS.
MAKE = """#!/bin/sh
for word; do case $word in O=*) out=${word#O=};; esac; last=$word; done
env > "$LOG/environment"
echo "$last" >> "$LOG/made"
case $last in
    allnoconfig) grep -v "^$(cat "$LOG/loses" 2>/dev/null || echo none)=" "$KCONFIG_ALLCONFIG" > "$out/.config" ;;
    kernelrelease) echo 6.1.9-casemate ;;
    vmlinux)
        echo "  CC      kernel/fork.o"
        if [ -e "$LOG/fails" ]; then echo "kernel/fork.c:7:1: error: no such thing"; exit 2; fi
        printf '\\177ELF and symbols' > "$out/vmlinux" ;;
esac
"""
SCRIPTS = {
    "make": MAKE,
    "gcc": "#!/bin/sh\necho 'gcc 12 of the test'\n",
    "objcopy": '#!/bin/sh\ncp "$2" "$3"\n',
    "bc": "", "flex": "", "bison": "", "ld": "", "perl": "", "xz": "",
    "apt-cache": "#!/bin/sh\nprintf 'Package: linux-source-6.1\\nVersion: 6.1.9-1\\n'\n",
    "apt-get": '#!/bin/sh\necho "$@" >> "$LOG/apt"\ncase "$*" in *download*) touch linux-source.deb;; esac\n',
    "dpkg-deb": '#!/bin/sh\nmkdir -p package/usr/src && cp "$LOG/linux.tar" package/usr/src/linux-source-6.1.tar.xz\n',
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that is empty, and the directory where the programs write down what they were asked."""
    programs, log, tree = tmp_path / "bin", tmp_path / "log", tmp_path / "linux-6.1.9"
    for directory in (programs, log, tree / "arch/x86", tree / "arch/arm/boot"):
        directory.mkdir(parents=True)
    for name, script in SCRIPTS.items():
        # The fakes find their directory by what stands in them: a build takes no variable of its caller's along.
        (programs / name).write_text(script.replace("#!/bin/sh\n", f"#!/bin/sh\nLOG={log}\n"))
        (programs / name).chmod(0o755)
    for name in ("Makefile", "Kconfig", "arch/x86/head.S", "arch/arm/Kconfig", "arch/arm/boot/head.S"):
        (tree / name).write_text(name)
        os.utime(tree / name, (1_700_000_000, 1_700_000_000))
    subprocess.run(["tar", "-c", "-f", str(log / "linux.tar"), "-C", str(tmp_path), tree.name], check=True)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path / "store"))
    monkeypatch.setattr("casemate.guest.build._HEADERS", ())
    return log

"""One run of a workload: an overlay over the root, a config.json as docker would write it, a runtime, a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CAPABILITIES = [
    f"CAP_{name}"
    for name in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()
]
_ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm"]


@dataclass(frozen=True)
class Outcome:
    """What a run gave. code: 124 if its time was over."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def config(arguments: list[str]) -> dict[str, object]:
    """The specification that docker gives a container without options, but for a seccomp profile."""
    tmpfs = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    return {
        "ociVersion": "1.0.2",
        "hostname": "compat",
        "root": {"path": "rootfs", "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": _ENVIRONMENT,
            "cwd": "/root",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": tmpfs},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            # Some of stress-ng's stressors take all that there is.
            "resources": {"memory": {"limit": 3 << 30}},
        },
    }


@contextlib.contextmanager
def bundle(roots: list[Path], arguments: list[str], files: dict[str, Path]) -> Iterator[Path]:
    """A bundle whose root is a private layer over `roots`, the uppermost first, with `files` (path inside: file) put in; gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="casemate-compat-"))
    target = directory / "rootfs"
    layers = [directory / name for name in ("upper", "work")]
    for path in (target, *layers):
        path.mkdir()
    options = f"lowerdir={':'.join(str(root) for root in roots)},upperdir={layers[0]},workdir={layers[1]}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, target], check=True)
    try:
        for inside, file in files.items():
            shutil.copy(file, target / inside.lstrip("/"))
        (directory / "config.json").write_text(json.dumps(config(arguments)))
        yield directory
    finally:
        subprocess.run(["umount", "-l", target], check=True)
        shutil.rmtree(directory)


def run(runtime: list[str], roots: list[Path], arguments: list[str], files: dict[str, Path], limit_s: float) -> Outcome:
    """Runs it once. The container is deleted whatever happens."""
    name = f"compat-{uuid.uuid4().hex[:12]}"
    with bundle(roots, arguments, files) as directory:
        started = time.monotonic()
        command = [*runtime, "run", "--bundle", str(directory), name]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=limit_s)
            code = process.returncode
        except subprocess.TimeoutExpired:
            _end(runtime, name, process)
            out, err = process.communicate()
            code = 124
        finally:
            seconds = time.monotonic() - started
            _end(runtime, name, process)
    return Outcome(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), seconds)


def _end(runtime: list[str], name: str, process: subprocess.Popen[bytes]) -> None:
    subprocess.run([*runtime, "delete", "--force", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)

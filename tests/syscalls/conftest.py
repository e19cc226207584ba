"""Each program runs on the host and in the sentry, and must tell the same both times."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CASEMATE = HERE.parents[1] / ".venv/bin/casemate"
LIMIT_S = 60


def _run(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], Path]:
    """Compiles a program of this directory, without a library to load."""

    def compile_program(source: str) -> Path:
        program = tmp_path / Path(source).stem
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wno-unused-result", "-o", program, HERE / source, "-lpthread"], check=True)
        return program

    return compile_program


@pytest.fixture
def same_in_sentry(compiled: Callable[[str], Path]) -> Callable[[str], None]:
    """Asserts that a C program of this directory has the same output and exit code on the host and in the sentry."""

    def check(source: str) -> None:
        program = compiled(source)
        native = _run([str(program)])
        # A shell before it: as the first process, the program would be given orphans to wait for.
        sandboxed = _run([str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{program.parent}:/t", "--", "sh", "-c", f"/t/{program.name}; exit $?"])
        assert sandboxed == native

    return check


@pytest.fixture
def same(tmp_path: Path) -> Callable[..., str]:
    """Compares a program (C is compiled first) on the host and in the sentry; `extra` are its arguments. Its output comes back."""

    def compare(source: Path, *extra: str) -> str:
        command = _prepared(source, tmp_path)
        tmp_path.chmod(0o755)
        native = subprocess.run([*command("."), *extra], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        sentry = [str(CASEMATE), "do", "--isolation", "sentry", "--bind", f"{tmp_path}:/t", "--workdir", "/t", "--", *command("/t"), *extra]
        served = subprocess.run(sentry, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert (served.stdout, served.returncode) == (native.stdout, native.returncode), served.stderr[-2000:]
        return native.stdout

    return compare


def _prepared(source: Path, place: Path) -> Callable[[str], list[str]]:
    """How the program is called, with its directory at a base."""
    interpreter = {".py": ["/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable, "-S"], ".sh": ["/bin/bash"]}.get(source.suffix)
    if interpreter:
        (place / source.name).write_bytes(source.read_bytes())
        return lambda base: [*interpreter, f"{base}/{source.name}"]
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-pthread", "-o", place / source.stem, source], check=True)
    return lambda base: [f"{base}/{source.stem}"]


_DOCKER = (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP".split()
)  # what docker's containers have


def _bundle(directory: Path, program: Path) -> None:
    root = directory / "rootfs"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/sh")
    shutil.copy(program, root / "prog")
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    capabilities = [f"CAP_{name}" for name in _DOCKER]
    config["process"] |= {"terminal": False, "noNewPrivileges": False, "args": ["/bin/sh", "-c", "/prog; exit $?"]}
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    config["root"]["readonly"] = False
    config["linux"]["cgroupsPath"] = f"/casemate-test/{uuid.uuid4().hex}"
    for mount in config["mounts"]:
        # Set-id programs are tried there.
        if mount["destination"] == "/dev/shm":
            mount["options"] = [option for option in mount["options"] if option not in ("nosuid", "noexec")]
    (directory / "config.json").write_text(json.dumps(config))


@pytest.fixture
def same_in_container(compiled: Callable[[str], Path], tmp_path: Path) -> Callable[[str], None]:
    """As `same_in_sentry`, in a container whose root has the capabilities that docker gives: the program reduces itself to those."""

    def check(source: str) -> None:
        program = compiled(source)
        bundle = tmp_path / "bundle"
        bundle.mkdir()
        _bundle(bundle, program)
        # Where every user reaches it, as the program becomes others and executes itself; a name of its own, as other runs of the tests copy theirs.
        with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
            Path(place).chmod(0o755)
            native = _run(["sh", "-c", f"{shutil.copy(program, place)}; exit $?"])
        name = f"t{uuid.uuid4().hex[:12]}"
        sandboxed = _run([str(CASEMATE), "--root", str(tmp_path / "state"), "run", "--isolation", "sentry", "-b", str(bundle), name])
        assert sandboxed == native

    return check

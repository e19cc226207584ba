"""The wheel and the source distribution, installed into fresh environments as users do: what is in them, and that it runs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import make_rootfs

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".cache" / "wheels"  # of the dependencies: `make setup` downloads them
TAG = "py3-none-manylinux2014_x86_64"
MAX_WHEEL_BYTES = 4 << 20  # 1.6 MB when this was written; debug information or a second copy of the engine would be above it
MAX_ENGINE_BYTES = 7 << 20
UID = 4243
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def execute(*command: str | Path, cwd: str | Path = "/", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs without this environment's variables."""
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    return subprocess.run([str(word) for word in command], cwd=cwd, env=variables, capture_output=True, text=True, timeout=110, check=False)


def install(wheel: Path, prefix: Path) -> Path:
    """A fresh environment with the wheel and its dependencies; returns its command."""
    made = execute(sys.executable, "-m", "venv", "--without-pip", prefix)
    assert made.returncode == 0, made.stderr
    python = prefix / "bin" / "python"
    done = execute(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--find-links", WHEELS, wheel)
    assert done.returncode == 0, done.stderr
    return prefix / "bin" / "casemate"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    # For the target that `make` built for: another's build takes minutes.
    chosen = {name: os.environ[name] for name in ("CARGO_BUILD_TARGET",) if name in os.environ}
    done = execute(Path(sys.executable).with_name("hatchling"), "build", "-d", directory, cwd=ROOT, **chosen)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def prefix(wheel: Path) -> Iterator[Path]:
    """An environment where every user of the host can go, which pytest's directories are not."""
    directory = Path(tempfile.mkdtemp(prefix="casemate-wheel-", dir="/var/tmp"))
    directory.chmod(0o755)
    install(wheel, directory / "env")
    yield directory / "env"
    shutil.rmtree(directory)


@pytest.fixture
def casemate(prefix: Path) -> Path:
    return prefix / "bin" / "casemate"


@pytest.fixture
def bundle(casemate: Path, tmp_path: Path) -> Path:
    """A minimal bundle, whose program leaves with 7."""
    make_rootfs(tmp_path / "rootfs")
    assert execute(casemate, "spec", cwd=tmp_path).returncode == 0
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["sh", "-c", "echo inside; exit 7"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_tag_is_of_a_platform(wheel: Path) -> None:
    assert wheel.name.endswith(f"-{TAG}.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        metadata = archive.read(name).decode().splitlines()
    assert f"Tag: {TAG}" in metadata
    assert "Root-Is-Purelib: false" in metadata


def test_executables_are_static_executable_and_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        (launcher,) = [name for name in entries if name.endswith(".data/scripts/casemate")]
        for name in ("casemate/_bin/casemate-engine", launcher):
            assert entries[name].external_attr >> 16 & 0o777 == 0o755
            content = archive.read(name)
            assert content.startswith(b"\x7fELF")
            assert b"/ld-linux" not in content  # no interpreter: needs no libc of the host
            assert len(content) < MAX_ENGINE_BYTES
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_nothing_but_the_package_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    kinds = {name.split("/")[0] for name in names}
    assert {kind.split("-")[0] for kind in kinds} == {"casemate"}
    assert [name for name in names if "__pycache__" in name or name.endswith((".so", ".pyc", ".bin"))] == []
    assert names.count("casemate/_bin/casemate-engine") == 1
    assert "casemate/py.typed" in names


def test_wheel_has_every_module_of_the_source(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src"
    assert {str(path.relative_to(source)) for path in source.rglob("*.py")} - names == set()


def test_installed_engine_is_executable(prefix: Path) -> None:
    (engine,) = prefix.glob("lib/python3*/site-packages/casemate/_bin/casemate-engine")
    assert stat.S_IMODE(engine.stat().st_mode) & 0o111 == 0o111


def test_version(casemate: Path) -> None:
    done = execute(casemate, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.1.0" in done.stdout


def test_import_as_a_library(prefix: Path) -> None:
    done = execute(prefix / "bin" / "python", "-W", "error", "-c", "import casemate, casemate.sdk; print(casemate.__file__)")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(prefix))


def test_do_runs_a_program(casemate: Path) -> None:
    done = execute(casemate, "do", "--", "sh", "-c", "echo inside; exit 7")
    assert (done.stdout, done.returncode) == ("inside\n", 7), done.stderr


def test_installed_for_a_user_without_an_environment(wheel: Path, tmp_path: Path) -> None:
    """No python3 stands beside the commands there: the one that pip writes for its own interpreter works."""
    python = Path(sys.executable).resolve()
    options = ["--quiet", "--user", "--break-system-packages", "--no-warn-script-location", "--no-index", "--find-links", WHEELS]
    done = execute(python, "-m", "pip", "install", *options, wheel, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    command = tmp_path / ".local" / "bin" / "casemate-python"
    done = execute(command, "do", "--", "sh", "-c", "echo inside; exit 7", HOME=str(tmp_path))
    assert (done.stdout, done.returncode) == ("inside\n", 7), done.stderr


@is_root
def test_run_of_a_bundle(casemate: Path, bundle: Path) -> None:
    done = execute(casemate, "--root", bundle / "state", "run", "--bundle", bundle, f"wheel-{os.getpid()}")
    assert (done.stdout, done.returncode) == ("inside\n", 7), done.stderr


@is_root
def test_read_only_installation(prefix: Path, casemate: Path, bundle: Path) -> None:
    """A package on a read-only file system, where no cache of modules can be written."""
    for cache in prefix.glob("lib/python3*/site-packages/casemate/**/__pycache__"):
        shutil.rmtree(cache)
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; "$2" do -- true && "$2" --root "$3/state" run --bundle "$3" "$4"'
    done = execute("unshare", "--mount", "sh", "-ec", script, "sh", prefix, casemate, bundle, f"wheel-ro-{os.getpid()}")
    assert (done.stdout, done.stderr, done.returncode) == ("inside\n", "", 7)
    assert list(prefix.glob("lib/python3*/site-packages/casemate/**/__pycache__")) == []


@is_root
def test_unprivileged_user_runs_an_installation_of_root(casemate: Path, tmp_path: Path) -> None:
    runtime = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(runtime, UID, UID)
    closed = any(not stat.S_IMODE(parent.stat().st_mode) & 1 for parent in Path(sys.executable).resolve().parents)
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] if closed else []
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *reading]
    done = execute(*become, casemate, "do", "--", "sh", "-c", "echo inside; exit 7", XDG_RUNTIME_DIR=str(runtime), HOME="/")
    shutil.rmtree(runtime)
    assert (done.stdout, done.stderr, done.returncode) == ("inside\n", "", 7)


def test_source_distribution_builds_the_same_wheel(distributions: Path, wheel: Path, tmp_path: Path) -> None:
    (source,) = distributions.glob("*.tar.gz")
    # What is compiled already is taken from this checkout's target directory; cargo compiles anew what is not the same, or misses what is not there.
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    done = execute(sys.executable, "-m", "pip", "wheel", *options, source, CARGO_TARGET_DIR=str(ROOT / "target"))
    assert done.returncode == 0, done.stderr
    built = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())

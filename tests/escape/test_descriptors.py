"""CVE-2024-21626: descriptors of the runtime or its caller must lead no program, working directory or path out of the root."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import start

from bundle import Bundle

# What the runtime itself may have open.
NUMBERS = range(3, 41)


@pytest.fixture
def open_root() -> Iterator[int]:
    """The host's root, open in the caller and inheritable, as a careless engine would leave it."""
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    # The first free one from 20 on: never over another object's.
    high = fcntl.fcntl(fd, fcntl.F_DUPFD, 20)
    os.close(fd)
    yield high
    os.close(high)


def verb(bundle: Bundle, fd: int, *words: str) -> subprocess.CompletedProcess[str]:
    """As Bundle.verb, with a descriptor that is inherited."""
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.state), *words]
    with (bundle.directory / "out").open("w+") as out:
        done = subprocess.run(command, stdout=out, stderr=out, pass_fds=(fd,), cwd=bundle.directory, timeout=30, check=False)
        out.seek(0)
        return subprocess.CompletedProcess(words, done.returncode, out.read(), "")


def stayed_inside(done: subprocess.CompletedProcess[str]) -> bool:
    """Refused; or it was a descriptor of the container's own root."""
    return done.returncode != 0 or done.stdout == "/\n/proc/self/cwd/inside\n"


@pytest.mark.parametrize("how", ["run", "exec"])
def test_working_directory_through_a_descriptor(bundle: Bundle, open_root: int, how: str) -> None:
    (bundle.rootfs / "inside").touch()
    report = ["sh", "-c", "pwd; ls -d /proc/self/cwd/inside"]
    if how == "exec":
        start(bundle, "sleep", "100")
    for number in (*NUMBERS, open_root):
        bundle.config["process"] |= {"cwd": f"/proc/self/fd/{number}", "args": report}
        run = ["run", "--bundle", str(bundle.directory), bundle.id]
        done = verb(bundle, open_root, *(run if how == "run" else ["exec", "--cwd", f"/proc/self/fd/{number}", bundle.id, *report]))
        assert stayed_inside(done), (number, done.stdout)
    assert done.returncode != 0


def test_working_directory_through_a_link_of_the_image_is_refused(bundle: Bundle, open_root: int) -> None:
    (bundle.rootfs / "work").symlink_to(f"/proc/self/fd/{open_root}")
    bundle.config["process"]["cwd"] = "/work"
    assert verb(bundle, open_root, "run", "--bundle", str(bundle.directory), bundle.id).returncode != 0


def test_mount_destination_through_a_descriptor(bundle: Bundle, open_root: int, canary: Path) -> None:
    (bundle.rootfs / "data").symlink_to(f"/proc/self/fd/{open_root}{canary}")
    bundle.config["mounts"].append({"destination": "/data/inside", "type": "tmpfs", "source": "tmpfs"})
    verb(bundle, open_root, "run", "--bundle", str(bundle.directory), bundle.id)


@pytest.mark.parametrize("how", ["run", "exec"])
def test_program_has_no_other_descriptors(bundle: Bundle, open_root: int, how: str) -> None:
    listing = ["ls", "-l", "/proc/self/fd"]
    if how == "run":
        bundle.config["process"]["args"] = listing
        done = verb(bundle, open_root, "run", "--bundle", str(bundle.directory), bundle.id)
    else:
        start(bundle, "sleep", "100")
        done = verb(bundle, open_root, "exec", bundle.id, *listing)
    numbers = [line.split(" -> ")[0].split()[-1] for line in done.stdout.splitlines() if " -> " in line]
    targets = [line.split(" -> ")[1] for line in done.stdout.splitlines() if " -> " in line]
    assert numbers[:3] == ["0", "1", "2"]
    assert all(target.startswith("/proc/") for target in targets[3:])  # the listing's own


@pytest.mark.parametrize("through", ["descriptor", "link"])
def test_missing_working_directory_is_not_made_on_the_host(bundle: Bundle, open_root: int, canary: Path, through: str) -> None:
    (bundle.rootfs / "work").symlink_to(f"/proc/self/fd/{open_root}")
    base = "/work" if through == "link" else f"/proc/self/fd/{open_root}"
    bundle.config["process"]["cwd"] = f"{base}{canary}/made"
    assert verb(bundle, open_root, "run", "--bundle", str(bundle.directory), bundle.id).returncode != 0
    assert not (canary / "made").exists()
    bundle.config["process"]["cwd"] = "/"
    start(bundle, "sleep", "100")
    assert verb(bundle, open_root, "exec", "--cwd", f"{base}{canary}/made", bundle.id, "true").returncode != 0
    assert not (canary / "made").exists()


@pytest.mark.parametrize("through", ["descriptor", "link"])
def test_program_is_not_found_through_a_descriptor(bundle: Bundle, open_root: int, through: str, tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    program.write_bytes((bundle.rootfs / "bin/busybox").read_bytes())
    program.chmod(0o755)
    path = f"/proc/self/fd/{open_root}{program}"
    (bundle.rootfs / "bin/sh").unlink()
    (bundle.rootfs / "bin/sh").symlink_to(path)
    bundle.config["process"]["args"] = [*([path, "sh"] if through == "descriptor" else ["sh"]), "-c", "echo ran"]
    done = verb(bundle, open_root, "run", "--bundle", str(bundle.directory), bundle.id)
    assert (done.returncode != 0, "ran" in done.stdout) == (True, False)


@pytest.mark.parametrize(("runtime", "isolation"), [("runc", ""), ("casemate", "namespaces"), ("casemate", "sentry")])
def test_a_null_device_given_as_a_stream_keeps_its_mode(tmp_path: Path, runtime: str, isolation: str) -> None:
    """The host's /dev/null is one inode for everybody: a program must not change it through its standard input."""
    given = tmp_path / "null"
    os.mknod(given, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    given.chmod(0o666)
    bundle = Bundle(tmp_path, runtime)
    capabilities = bundle.config["process"]["capabilities"]
    bundle.config["process"]["capabilities"] = {kind: [*names, "CAP_FOWNER"] for kind, names in capabilities.items()}
    bundle.config["process"]["args"] = ["sh", "-c", "chmod 600 /proc/self/fd/0; chmod 600 /dev/stdin; cat <&0"]
    if isolation:
        bundle.config["annotations"] = {"dev.casemate.isolation": isolation}
    bundle.write()
    try:
        with given.open("rb") as stdin:
            command = [bundle.runtime, "--root", str(bundle.state), "run", "--bundle", str(bundle.directory), bundle.id]
            done = subprocess.run(command, stdin=stdin, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE(given.stat().st_mode) == 0o666
    finally:
        bundle.close()

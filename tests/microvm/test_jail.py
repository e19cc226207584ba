"""The jailer: what a monitor in it is, sees and can do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE
from microvm.monitor import Monitor, engine, wait_for
from microvm.test_fork import Child
from microvm.test_snapshot import ask, create, load, pause, snapshot

UID, GID = 54321, 54322


class Jailed(Monitor):
    """A monitor behind the jailer; its API socket is looked for in the jail."""

    def __init__(self, base: Path, name: str, *options: str) -> None:
        self.root = base / "casemate-engine" / name / "root"
        user = [] if "--own-user" in options else ["--uid", str(UID), "--gid", str(GID)]
        options = tuple(option for option in options if option != "--own-user")
        words = ["--id", name, *user, "--chroot-base-dir", str(base), *options]
        self.command = [str(engine()), "jailer", *words, "--", "--api-sock", "/run/api.socket"]
        self.adopt(self.command, self.root / "run/api.socket")


@pytest.fixture
def jail() -> Iterator[Callable[..., Jailed]]:
    monitors: list[Jailed] = []
    # A short path: a socket's name has 107 bytes. The jail's user passes, and reads nothing.
    with tempfile.TemporaryDirectory(prefix="jail") as base:
        Path(base).chmod(0o711)

        def begin(*options: str) -> Jailed:
            monitors.append(Jailed(Path(base), f"jail-{len(monitors)}", *options))
            return monitors[-1]

        yield begin
        for monitor in monitors:
            monitor.close()


def boot(monitor: Jailed, guest: Path) -> None:
    (monitor.root / "guest.elf").write_bytes(guest.read_bytes())
    (monitor.root / "guest.elf").chmod(0o644)
    monitor.boot(Path("/guest.elf"), "test=state-fork mib=1", 32)
    monitor.read_until("ready\n")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def check_walls(pid: int, root: Path) -> None:
    said = status(pid)
    assert said["Uid"].split() == [str(UID)] * 4
    assert said["Gid"].split() == [str(GID)] * 4
    assert said["Groups"] == ""
    assert said["NoNewPrivs"] == "1"
    assert {said[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    for namespace in ("mnt", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{namespace}") != os.readlink(f"/proc/self/ns/{namespace}")
    assert said["Seccomp"] == "2"
    # Nothing but the jail is mounted.
    assert len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()) == 1
    assert (Path(f"/proc/{pid}/root").stat().st_dev, Path(f"/proc/{pid}/root").stat().st_ino) == (root.stat().st_dev, root.stat().st_ino)


def test_a_guest_runs_in_the_jail(jail: Callable[..., Jailed], guest: Path) -> None:
    monitor = jail()
    # The filter is there when the first request is read.
    monitor.ok("GET", "/")
    check_walls(monitor.process.pid, monitor.root)
    assert sorted(path.name for path in monitor.root.iterdir()) == ["dev", "run"]
    assert monitor.ok("GET", "/")["id"] == "jail-0"
    boot(monitor, guest)
    assert ask(monitor, "c") == "256"
    monitor.type("!")
    monitor.finish()
    assert list((monitor.root / "run").iterdir()) == []


def test_snapshot_and_fork_work_in_the_jail(jail: Callable[..., Jailed], guest: Path) -> None:
    monitor = jail()
    boot(monitor, guest)
    answer = monitor.ok("PUT", "/casemate/fork", {"count": 1, "child": {"api_sock": "/run/child{}", "serial_out_path": "/run/serial{}"}})
    made = answer["children"][0]
    child = Child(made | {"api_sock": str(monitor.root / made["api_sock"].lstrip("/"))}, monitor.root / "run/serial0")
    assert child.report()[1:] == ["256", "64", "told"]
    check_walls(child.pid, monitor.root)
    # A child has no page tables of its own to read in a jail; it looks what is zero.
    assert child.request("PATCH", "/vm", {"state": "Paused"})[0] == 204
    assert child.request("PUT", "/snapshot/create", create(Path("/run/childs")))[0] == 204
    assert (monitor.root / "run/childs.memory").stat().st_blocks * 512 < 4 << 20
    child.end()
    pause(monitor)
    monitor.ok("PUT", "/snapshot/create", create(Path("/run/snapshot")))
    # The guest has 32 MiB and has written little more than one: holes are what it has not touched.
    assert (monitor.root / "run/snapshot.memory").stat().st_blocks * 512 < 4 << 20
    other = jail()
    for name in ("snapshot.state", "snapshot.memory"):
        (monitor.root / "run" / name).rename(other.root / "run" / name)
    other.ok("PUT", "/snapshot/load", load(Path("/run/snapshot")))
    other.read_until("told\n")
    assert ask(other, "q") == "64"


def test_devices_belong_to_the_jails_user(jail: Callable[..., Jailed]) -> None:
    monitor = jail()
    for name in ("kvm", "urandom", "null"):
        found = (monitor.root / "dev" / name).stat()
        assert stat.S_ISCHR(found.st_mode)
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, UID)
        assert found.st_rdev == Path("/dev", name).stat().st_rdev


def test_a_jail_has_a_user_of_its_own(jail: Callable[..., Jailed]) -> None:
    users = {status(jail("--own-user").process.pid)["Uid"].split()[0] for _ in range(3)}
    assert len(users) == 3
    assert min(map(int, users)) >= 0x70000000


def test_binds_show_what_they_name_and_nothing_else(jail: Callable[..., Jailed], guest: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "guest.elf").write_bytes(guest.read_bytes())
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    for name in ("guest.elf", "disk"):
        (tmp_path / name).chmod(0o666)
    read_only, writable = f"{tmp_path}/guest.elf=/kernels/guest", f"{tmp_path}/disk=disk"
    monitor = jail("--bind", read_only, "--bind-rw", writable)
    mounts = Path(f"/proc/{monitor.process.pid}/mountinfo").read_text()
    options = {line.split()[4]: line.split()[5].split(",") for line in mounts.splitlines()}
    assert sorted(options) == ["/", "/disk", "/kernels/guest"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options["/kernels/guest"])
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(options["/disk"])
    # Not for the host.
    assert (monitor.root / "kernels/guest").stat().st_size == 0
    monitor.ok("PUT", "/drives/d", {"drive_id": "d", "path_on_host": "/disk", "is_root_device": False, "is_read_only": False})
    assert "Read-only" in monitor.fault("PUT", "/drives/e", {"drive_id": "e", "path_on_host": "/kernels/guest", "is_root_device": False, "is_read_only": False})
    monitor.boot(Path("/kernels/guest"), "test=block", 32)
    monitor.finish()
    assert (tmp_path / "disk").read_bytes() != bytes(1 << 20)


@pytest.mark.parametrize("place", ["dev", "run", "dev/net"])
def test_a_link_that_an_inhabitant_left_is_not_followed(jail: Callable[..., Jailed], tmp_path: Path, place: str) -> None:
    first = jail()
    first.close()
    left = first.root / place
    shutil.rmtree(left)
    left.symlink_to(tmp_path)
    owner = tmp_path.stat().st_uid
    ended = subprocess.run(first.command, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 2
    # glibc's words for it, and musl's, differ.
    assert f"(os error {errno.ELOOP})" in ended.stderr.decode()
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_uid == owner


def test_limits_and_cgroups(jail: Callable[..., Jailed]) -> None:
    parent = f"casemate-jail-test-{os.getpid()}"
    has_v1 = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
    file, version = ("memory.limit_in_bytes", "1") if has_v1 else ("pids.max", "2")
    options = ["--cgroup", f"{file}=1073741824", "--cgroup-version", version, "--parent-cgroup", parent]
    monitor = jail(*(options if has_v1 else []), "--resource-limit", "no-file=300", "--resource-limit", "fsize=67108864")
    limits = Path(f"/proc/{monitor.process.pid}/limits").read_text()
    assert "300                  300                  files" in limits
    assert "67108864             67108864             bytes" in limits
    if not has_v1:
        return
    group = Path("/sys/fs/cgroup/memory", parent, "jail-0")
    assert group.joinpath("cgroup.procs").read_text().split() == [str(monitor.process.pid)]
    assert group.joinpath(file).read_text().strip() == "1073741824"
    monitor.close()
    wait_for(lambda: not group.joinpath("cgroup.procs").read_text())
    group.rmdir()
    group.parent.rmdir()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "--id"),
        (["--id", "a/b", "--uid", "1", "--gid", "1"], "--id"),
        (["--id", "..", "--uid", "1", "--gid", "1"], "--id"),
        (["--id", "a", "--uid", "0", "--gid", "1"], "not root's"),
        (["--id", "a", "--uid", "1", "--gid", "1", "--cgroup", "../x.y=1"], "not valid"),
        (["--id", "a", "--uid", "1", "--gid", "1", "--parent-cgroup", "../x"], "not valid"),
        (["--id", "a", "--uid", "1", "--gid", "1", "--resource-limit", "nproc=1"], "not valid"),
        (["--id", "a", "--bind", "/etc=../x"], "not valid"),
        (["--id", "a", "--bind", "/etc"], "not valid"),
        (["--id", "a", "--uid", "1"], "not root's"),
        (["--id", "a", "--uid", "1", "--gid", "1", "--wings", "2"], "unknown option"),
        (["--id", "a", "--uid", "1", "--gid", "1", "--netns", "/no/such/netns"], "No such file"),
    ],
)
def test_refusals(words: list[str], text: str, tmp_path: Path) -> None:
    command = [str(engine()), "jailer", *words, *(["--chroot-base-dir", str(tmp_path)] if words[:1] == ["--id"] and len(words) < 8 else [])]
    ended = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert text in ended.stderr.decode()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the jail's user may pass, with a short path."""
    with tempfile.TemporaryDirectory(prefix="jail") as made:
        Path(made).chmod(0o711)
        yield Path(made)


def command(place: Path, *options: str) -> list[str]:
    base = [] if "--no-jail" in options else ["--chroot-base-dir", str(place / "jails")]
    return [CASEMATE, "vmm", *base, "--api-sock", str(place / "api"), *options]


def begin(place: Path, *options: str) -> Monitor:
    monitor = Monitor.__new__(Monitor)
    monitor.adopt(command(place, *options), place / "api")
    return monitor


def jails(place: Path) -> set[str]:
    return set(os.listdir(place / "jails/casemate-engine"))


def test_the_command_jails_and_shows_what_is_named(place: Path, guest: Path) -> None:
    disk = place / "disk"
    disk.write_bytes(bytes(1 << 20))
    disk.chmod(0o666)
    drive = {"drive_id": "d", "path_on_host": str(disk), "is_root_device": False, "is_read_only": False}
    boot = {"kernel_image_path": str(guest), "boot_args": "test=count"}
    config = {"boot-source": boot, "drives": [drive], "vsock": {"guest_cid": 3, "uds_path": str(place / "vsock")}}
    (place / "config.json").write_text(json.dumps(config))
    monitor = begin(place, "--config-file", str(place / "config.json"), "--log-path", str(place / "log"), "--level", "Info")
    try:
        monitor.read_until("1\n")
        said = status(monitor.process.pid)
        user = (place / "log").stat().st_uid
        assert user != 0
        assert said["Uid"].split() == [str(user)] * 4
        assert (said["CapEff"], said["NoNewPrivs"], said["Seccomp"]) == ("0" * 16, "1", "2")
        (name,) = jails(place)
        root = Path(f"/proc/{monitor.process.pid}/root")
        assert root.stat().st_ino == (place / "jails/casemate-engine" / name / "root").stat().st_ino
        assert (root / monitor.ok("GET", "/vm/config")["drives"][0]["path_on_host"].lstrip("/")).stat().st_ino == disk.stat().st_ino
        assert (place / "vsock").is_socket()
        assert "the machine runs" in (place / "log").read_text()
    finally:
        monitor.close()
    # The name was drawn, and nobody can use that jail again: the next start removes it. The links lead to the new one.
    monitor = begin(place)
    try:
        assert monitor.ok("GET", "/")["id"] in jails(place)
        assert name not in jails(place)
    finally:
        monitor.close()


def test_the_command_goes_on_with_a_snapshot(place: Path, guest: Path) -> None:
    original = begin(place, "--no-jail")
    try:
        original.boot(guest, "test=state mib=1", 32)
        original.read_until("ready\n")
        path = snapshot(original, place)
    finally:
        original.close()
    (place / "api").unlink(missing_ok=True)
    (place / "load.json").write_text(json.dumps(load(path)))
    words = ["--load-snapshot", str(place / "load.json")]
    done = subprocess.run(command(place, *words), capture_output=True, text=True, timeout=20, check=False)
    assert "snapshot.state: the jail's user" in done.stderr
    for name in ("snapshot.state", "snapshot.memory"):
        (place / name).chmod(0o644)
    copy = begin(place, *words)
    try:
        assert ask(copy, "c") == "256"
        assert status(copy.process.pid)["Uid"].split()[0] != "0"
    finally:
        copy.close()


def test_the_command_without_the_jail(place: Path, guest: Path) -> None:
    monitor = begin(place, "--no-jail", "--id", "free")
    try:
        assert monitor.ok("GET", "/")["id"] == "free"
        monitor.boot(guest, "test=count")
        monitor.read_until("1\n")
        said = status(monitor.process.pid)
        assert (said["Uid"].split()[0], said["Seccomp"]) == ("0", "2")
        assert not (place / "jails").exists()
    finally:
        monitor.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--config-file", "closed.json"], "kernel: the jail's user"),
        (["--config-file", "broken.json"], "broken.json: "),
        (["--config-file", "absent.json"], "absent.json: No such file or directory\n"),
        (["--api-sock", "absent/socket"], "absent/socket: No such file or directory"),
        (["--log-path", "absent/log"], "absent/log: No such file or directory"),
        (["--config-file", "list.json"], "list.json: expected an object"),
        (["--seccomp-filter", "none"], "none: No such file"),
        (["--id", "a/b"], "--id 'a/b': expected 1 to 64 letters"),
        (["--uid", "7"], "--uid and --gid go together"),
        (["--no-jail", "--uid", "7", "--gid", "7"], "--uid needs the jail"),
        (["--api-sock", "broken.json"], "broken.json: something is there already"),
        (["--colour"], "unknown option --colour"),
    ],
)
def test_the_command_refuses(place: Path, options: list[str], text: str) -> None:
    (place / "kernel").touch(0o600)
    (place / "closed.json").write_text(json.dumps({"boot-source": {"kernel_image_path": str(place / "kernel")}}))
    (place / "broken.json").write_text("{")
    (place / "list.json").write_text("[]")
    done = subprocess.run(command(place, *options), cwd=place, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "jails").exists() or jails(place) == set()
    assert not (place / "api").is_symlink()

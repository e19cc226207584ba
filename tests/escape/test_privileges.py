"""What a container with usual or excessive capabilities must not do to the host."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import eventually, grant, install, mount_points, start

from bundle import Bundle, make_rootfs

KEYCTL, ADD_KEY, REQUEST_KEY = 250, 248, 249
JOIN_SESSION = 1


@pytest.fixture
def shared_root(bundle: Bundle, tmp_path: Path) -> Iterator[Path]:
    """The bundle's root on a mount that propagates, as an engine's storage often is."""
    root = tmp_path / "shared"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", str(root)], check=True)
    subprocess.run(["mount", "--make-rshared", str(root)], check=True)
    make_rootfs(root / "root")
    bundle.config["root"]["path"] = str(root / "root")
    yield root
    bundle.close()
    subprocess.run(["umount", "-R", str(root)], check=True)


@pytest.mark.parametrize("propagation", ["", "private", "rprivate", "slave", "rslave"])
def test_mounts_of_a_container_do_not_come_back(bundle: Bundle, shared_root: Path, propagation: str) -> None:
    grant(bundle, "CAP_SYS_ADMIN")
    if propagation:
        bundle.config["linux"]["rootfsPropagation"] = propagation
    before = mount_points()
    start(bundle, "sh", "-c", "mount -t tmpfs none /tmp && mount -t tmpfs none /etc && touch /tmp/ready && sleep 100")
    pid = bundle.state_document()["pid"]
    eventually(Path(f"/proc/{pid}/root/tmp/ready").exists, "no mount in the container")
    assert mount_points() == before
    assert (shared_root / "root/etc/passwd").exists()


def test_cgroup_hierarchy_is_not_mounted_and_release_agent_not_written(bundle: Bundle) -> None:
    grant(bundle)
    cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    mounts = [mount for mount in bundle.config["mounts"] if mount["type"] != "cgroup"]
    bundle.config["mounts"] = [*mounts, cgroup]
    tries = "for c in memory rdma pids cpu; do mkdir -p /tmp/$c; mount -t cgroup -o $c none /tmp/$c && echo mounted; done"
    write = "for f in /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release; do echo /x > $f && echo wrote; done"
    made = "mkdir /sys/fs/cgroup/*/made && echo made; true"
    done = bundle.shell(f"ls -d /sys/fs/cgroup; {tries}; {write}; {made}")
    assert done.stdout == "/sys/fs/cgroup\n"


def test_control_files_of_the_kernel_are_not_written(bundle: Bundle) -> None:
    grant(bundle)
    files = "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/irq/default_smp_affinity /sys/kernel/uevent_helper"
    done = bundle.shell(f"for f in {files}; do (echo h > $f) && echo $f; done; mount -o remount,rw /proc/sys && echo remounted; true")
    assert done.stdout == ""


def test_session_keyring_of_the_caller_is_not_seen(bundle: Bundle, hostile: Path) -> None:
    install(bundle, hostile)
    find = [str(REQUEST_KEY), "s:user", "s:casemate-canary", "0", "0"]
    bundle.config["process"]["args"] = ["/bin/hostile", "syscall", *find]
    bundle.write()
    with_key = (
        "import ctypes, os, sys; call = ctypes.CDLL(None, use_errno=True).syscall\n"
        f"assert call({KEYCTL}, {JOIN_SESSION}, None) > 0; assert call({ADD_KEY}, b'user', b'casemate-canary', b'secret', 6, -3) > 0\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    outside = run(with_key, str(hostile), "syscall", *find)
    if "AssertionError" in outside.stderr:
        pytest.skip("a kernel without keyrings")
    assert int(outside.stdout.split()[0]) > 0
    inside = run(with_key, bundle.runtime, "--root", str(bundle.state), "run", "--bundle", str(bundle.directory), bundle.id)
    assert int(inside.stdout.split()[0]) == -1


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=30, check=False)


DEVICES = {"disk": (stat.S_IFBLK, 0, 0), "kmsg": (stat.S_IFCHR, 1, 11), "fuse": (stat.S_IFCHR, 10, 229), "mem": (stat.S_IFCHR, 1, 1)}


def number_of(name: str) -> tuple[int, int, int]:
    kind, *numbers = DEVICES[name]
    if name == "disk":
        numbers = [int(word) for word in Path("/proc/partitions").read_text().splitlines()[2].split()[:2]]
    return (kind, numbers[0], numbers[1])


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("more", [(), ("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_SYSLOG")])
def test_device_of_the_host_is_not_opened(bundle: Bundle, more: tuple[str, ...], name: str) -> None:
    grant(bundle, *more)
    kind, major, minor = number_of(name)
    node = bundle.rootfs / "tmp/node"
    os.mknod(node, kind | 0o666, os.makedev(major, minor))
    if name in ("kmsg", "fuse"):
        os.close(os.open(node, os.O_RDONLY))  # the host opens it, even there
    (bundle.rootfs / "bin/mknod").symlink_to("busybox")
    letter = "b" if kind == stat.S_IFBLK else "c"
    script = f"mknod /tmp/made {letter} {major} {minor}; for f in /tmp/made /tmp/node; do (exec 3< $f) && echo opened; done; true"
    assert bundle.shell(script).stdout == ""

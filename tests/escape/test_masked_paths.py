"""CVE-2025-31133, -52565, -52881: what an image puts at /dev/null, /dev/console or /proc must not unmask a path or redirect a write."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import Bundle

SECRET = "secret\n"
TRAPS: dict[str, Callable[[Path], object]] = {
    "absolute link": lambda null: null.symlink_to("/etc/target"),
    "parents": lambda null: null.symlink_to("../../../etc/target"),
    "link to proc": lambda null: null.symlink_to("/proc/sys/kernel/core_pattern"),
    "file": lambda null: null.write_text("mine"),
    "directory": lambda null: null.mkdir(),
    "fifo": os.mkfifo,
    "zero": lambda null: os.mknod(null, 0o20666, os.makedev(1, 5)),
    "block device": lambda null: os.mknod(null, 0o60666, os.makedev(1, 3)),
}


def without_dev(bundle: Bundle) -> None:
    """No mount on /dev: what is there is the image's."""
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")]
    (bundle.rootfs / "etc/target").write_text("target\n")
    (bundle.rootfs / "etc/secret").write_text(SECRET)
    bundle.config["linux"]["maskedPaths"] = ["/etc/secret"]


def test_mask_works_with_an_honest_image(bundle: Bundle) -> None:
    without_dev(bundle)
    assert bundle.shell("cat /etc/secret; echo x > /etc/secret; stat -c %t:%T /etc/secret").stdout == "1:3\n"


@pytest.mark.parametrize("trap", TRAPS)
def test_null_device_is_a_trap(bundle: Bundle, trap: str) -> None:
    without_dev(bundle)
    TRAPS[trap](bundle.rootfs / "dev/null")
    done = bundle.shell("stat -c %t:%T /etc/secret; cat /etc/secret; echo overwritten > /etc/secret")
    assert done.stdout in ("", "1:3\n")  # refused, or the true device
    assert (bundle.rootfs / "etc/target").read_text() == "target\n"
    assert (bundle.rootfs / "etc/secret").read_text() == SECRET


@pytest.mark.parametrize(
    ("name", "with_pts"),
    [("console", True), ("pts", True), ("ptmx", True), ("console", False), ("pts", False), ("pts/ptmx", False), ("ptmx", False)],
)
def test_terminal_with_links_below_dev(bundle: Bundle, canary: Path, name: str, with_pts: bool) -> None:
    pts = [mount for mount in bundle.config["mounts"] if mount["destination"] == "/dev/pts"]
    without_dev(bundle)
    bundle.config["mounts"] += pts if with_pts else []
    bundle.config["process"]["terminal"] = True
    place = bundle.rootfs / "dev" / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to("/etc/secret" if name == "console" else canary)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bundle.directory / "console.sock"))
    listener.listen()
    bundle.config["process"]["args"] = ["sh", "-c", "stat -c %t:%T /etc/secret > /tmp/kind; cat /etc/secret > /tmp/read; ls -l /proc/self/fd > /tmp/stdio"]
    bundle.write()
    done = bundle.verb("run", "--bundle", str(bundle.directory), "--detach", "--console-socket", str(bundle.directory / "console.sock"), bundle.id)
    listener.close()
    assert (bundle.rootfs / "etc/secret").read_text() == SECRET
    if name in ("console", "pts/ptmx") or not with_pts:
        assert done.returncode != 0
        assert "/dev/" in done.stderr


def test_no_mount_inside_proc_redirects_a_sysctl(bundle: Bundle, tmp_path: Path) -> None:
    without_dev(bundle)
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "ip_forward").symlink_to("/etc/target")
    bundle.config["mounts"].append({"destination": "/proc/sys/net/ipv4", "type": "bind", "source": str(fake), "options": ["rbind"]})
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    done = bundle.run("true")
    assert done.returncode != 0
    assert "/proc/sys/net/ipv4" in done.stderr
    assert (bundle.rootfs / "etc/target").read_text() == "target\n"


@pytest.mark.parametrize("how", ["image", "bind"])
def test_sysctl_is_written_to_no_file_of_the_image(bundle: Bundle, how: str) -> None:
    without_dev(bundle)
    target = bundle.rootfs / "etc/target"
    target.write_text("target\n")
    fake = bundle.directory / "fake"
    (fake / "sys/net/ipv4").mkdir(parents=True)
    (fake / "sys/net/ipv4/ip_forward").symlink_to("/etc/target")
    assert bundle.config["mounts"].pop(0)["destination"] == "/proc"
    if how == "image":
        (bundle.rootfs / "proc").rmdir()
        shutil.copytree(fake, bundle.rootfs / "proc", symlinks=True)
    else:
        bundle.config["mounts"].append({"destination": "/proc", "type": "bind", "source": str(fake), "options": ["rbind"]})
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert bundle.run("true").returncode != 0
    assert target.read_text() == "target\n"

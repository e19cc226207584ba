"""The server of a machine's files: a process beside the hypervisor, so that whoever runs the guest needs no right to a file of the container."""

from __future__ import annotations

import os

TAG = "share"  # the device's name in the guest
SOCKET = "/tmp/files.sock"
# QEMU's own in C, up to version 7; then the one in Rust.
_PROGRAMS = (("/usr/lib/qemu/virtiofsd", False), ("/usr/libexec/virtiofsd", True))


def find() -> tuple[str, bool]:
    """Its path, and whether it is the one in Rust; "" if there is none."""
    for path, is_rust in _PROGRAMS:
        if os.access(path, os.X_OK):
            return path, is_rust
    return "", False


def way() -> str:
    """How guests get their files here: without a server of virtio-fs, over the agent's stream."""
    return "virtiofs" if find()[0] else "protocol"


def command() -> list[str]:
    """Serves /share at SOCKET."""
    path, is_rust = find()
    common = [path, f"--fd={{listen:{SOCKET}}}", "--rlimit-nofile=0"]
    if is_rust:
        return [*common, "--shared-dir=/share", "--sandbox=chroot", "--cache=auto", "--xattr"]
    return [*common, "-f", "-o", "source=/share,sandbox=chroot,cache=auto,xattr,flock,posix_lock"]

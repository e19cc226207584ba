"""Taps of a network namespace: held open, and spoken to by whole frames."""

from __future__ import annotations

import socket
import subprocess
import sys

ETHERTYPE = 0x88B5
MAC = "06:00:ac:10:00:02"
# linux/if_tun.h: a tap, frames without further information, with a virtio header.
TUNSETIFF, TAP_FLAGS, IFF_VNET_HDR = 0x400454CA, 0x5002, 0x4000
HOST_MAC = bytes.fromhex("020000000001")


def inside(network: str) -> list[str]:
    return ["ip", "netns", "exec", network]


def from_inside(network: str, code: str) -> int:
    """The descriptor `fd` of a program in the namespace."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = f"import socket\n{code}\nsocket.send_fds(socket.socket(fileno=0), [b'x'], [fd])\n"
        subprocess.run([*inside(network), sys.executable, "-I", "-c", code], stdin=theirs, check=True)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    return fds[0]


def packet_socket(network: str, tap: str = "tap0") -> socket.socket:
    """A socket of the namespace's tap."""
    code = f"s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons({ETHERTYPE}))\ns.bind(('{tap}', {ETHERTYPE}))\nfd = s.fileno()"
    # With `fileno` alone Python asks the kernel what it is.
    result = socket.socket(fileno=from_inside(network, code))
    result.settimeout(20)
    return result


def open_tap(network: str, flags: int = TAP_FLAGS) -> int:
    """The namespace's tap0 as an open file."""
    return from_inside(
        network,
        f"import fcntl, os, struct\nfd = os.open('/dev/net/tun', os.O_RDWR)\nfcntl.ioctl(fd, {TUNSETIFF}, struct.pack('16sH22x', b'tap0', {flags}))",
    )


def echoes(stream: socket.socket, frames: list[bytes]) -> list[bytes]:
    """What comes back of frames that are sent one after the other, all before the first is waited for: those without a buffer wait in the tap."""
    header = bytes.fromhex(MAC.replace(":", "")) + HOST_MAC + ETHERTYPE.to_bytes(2, "big")
    for frame in frames:
        stream.send(header + frame)
    return [stream.recv(4096)[14:] for _ in frames]

"""The network card: frames with checked contents, limits, and the metadata service asked by Linux's own TCP."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microvm.monitor import Monitor

Start = Callable[..., Monitor]
ETHERTYPE = 0x88B5
MAC = "06:00:ac:10:00:02"
HOST_MAC = bytes.fromhex("020000000001")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace with two taps that nothing of the host's network talks to."""
    name = f"cmt-{os.getpid()}-{random.randrange(1 << 20):x}"
    ip("netns", "add", name)
    for tap in ("tap0", "tap1"):
        ip("-n", name, "tuntap", "add", tap, "mode", "tap")
        subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{tap}.disable_ipv6=1"], check=True)
        ip("-n", name, "link", "set", tap, "up")
    yield name
    ip("netns", "del", name)


def inside(network: str) -> list[str]:
    return ["ip", "netns", "exec", network]


def packet_socket(network: str) -> socket.socket:
    """A socket of the namespace's tap0, handed over by a process in there."""
    ours, theirs = socket.socketpair()
    code = (
        "import socket, sys\n"
        f"s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons({ETHERTYPE}))\n"
        f"s.bind(('tap0', {ETHERTYPE}))\n"
        "socket.send_fds(socket.socket(fileno=0), [b'x'], [s.fileno()])\n"
    )
    with ours, theirs:
        subprocess.run([*inside(network), sys.executable, "-I", "-c", code], stdin=theirs, check=True)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    # With `fileno` alone Python asks the kernel what it is.
    result = socket.socket(fileno=fds[0])
    result.settimeout(20)
    return result


def card(number: int = 0, **more: object) -> dict[str, object]:
    return {"iface_id": f"eth{number}", "host_dev_name": f"tap{number}", **more}


def echoes(stream: socket.socket, frames: list[bytes]) -> list[bytes]:
    answers = []
    for frame in frames:
        stream.send(bytes.fromhex(MAC.replace(":", "")) + HOST_MAC + ETHERTYPE.to_bytes(2, "big") + frame)
        answers.append(stream.recv(4096)[14:])
    return answers


def test_frames_of_all_sizes_come_back_as_they_were(start: Start, guest: Path, network: str) -> None:
    monitor = start(prefix=inside(network))
    monitor.ok("PUT", "/network-interfaces/eth0", card(guest_mac=MAC, mtu=1500))
    monitor.boot(guest, "test=net-echo")
    monitor.read_until("mac 0600ac100002\n")
    frames = [b"." + os.urandom(size - 1) for size in (46, 100, 486, 498, 499, 997, 1010, 1499, 1500)]
    with packet_socket(network) as stream:
        assert echoes(stream, frames) == frames
        stream.send(bytes(12) + ETHERTYPE.to_bytes(2, "big") + b"!" + bytes(60))
    monitor.finish()


def test_received_frames_wait_for_tokens_and_a_patch_frees_them(start: Start, guest: Path, network: str) -> None:
    monitor = start(prefix=inside(network))
    once = {"size": 1, "one_time_burst": 2, "refill_time": 3_600_000}
    monitor.ok("PUT", "/network-interfaces/eth0", card(guest_mac=MAC, rx_rate_limiter={"ops": once}))
    monitor.boot(guest, "test=net-echo")
    monitor.read_until("\n")
    frames = [bytes([number]) * 60 for number in range(3)]
    with packet_socket(network) as stream:
        assert echoes(stream, frames) == frames
        stream.settimeout(0.05)
        with pytest.raises(TimeoutError):
            echoes(stream, [b"late" * 20])
        stream.settimeout(20)
        # The fourth frame came in while nobody could have it; it is not lost.
        monitor.ok("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", "rx_rate_limiter": {"ops": {"size": 0, "refill_time": 0}}})
        assert stream.recv(4096)[14:] == b"late" * 20
        assert echoes(stream, frames) == frames
    assert monitor.ok("GET", "/vm/config")["network-interfaces"][0]["rx_rate_limiter"]["ops"]["size"] == 0


def test_sent_frames_keep_to_the_bandwidth(start: Start, guest: Path, network: str) -> None:
    monitor = start(prefix=inside(network))
    # 15 frames of 1526 bytes at 45780 a second and a bucket of two frames: 13 have to wait, about 433 ms.
    limit = {"bandwidth": {"size": 3052, "refill_time": 66}}
    monitor.ok("PUT", "/network-interfaces/eth0", card(tx_rate_limiter=limit))
    monitor.ok("PUT", "/boot-source", {"kernel_image_path": str(guest), "boot_args": "test=net-speed count=15"})
    before = time.monotonic()
    monitor.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    assert "cycles" in monitor.finish()
    assert time.monotonic() - before > 0.4


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (card(host_dev_name="lo"), "Open tap device failed"),
        (card(host_dev_name="a/b"), "invalid host_dev_name"),
        (card(mtu=67), "smallest mtu is 68"),
        (card(guest_mac="06:00:00:00:00"), "Invalid MAC address"),
    ],
)
def test_wrong_cards_are_refused(start: Start, network: str, body: dict[str, object], text: str) -> None:
    monitor = start(prefix=inside(network))
    assert text in monitor.fault("PUT", "/network-interfaces/eth0", body)


def test_a_tap_has_one_user(start: Start, network: str) -> None:
    monitor = start(prefix=inside(network))
    monitor.ok("PUT", "/network-interfaces/eth0", card())
    monitor.ok("PUT", "/network-interfaces/eth0", card())
    assert "busy" in monitor.fault("PUT", "/network-interfaces/eth1", {"iface_id": "eth1", "host_dev_name": "tap0"})


ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection("169.254.169.254", timeout=20)
for method, path, headers in json.loads(sys.argv[1]):
    if "TOKEN" in headers.values():
        headers = {name: token if value == "TOKEN" else value for name, value in headers.items()}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if method == "PUT" and answer.status == 200:
        token, text = text, "token"
    print(json.dumps([answer.status, text]))
"""


def ask(network: str, *requests: tuple[str, str, dict[str, str]]) -> list[tuple[int, str]]:
    import json

    words = [*inside(network), sys.executable, "-I", "-c", ASK, json.dumps(requests)]
    answer = subprocess.run(words, check=True, capture_output=True, timeout=60, text=True)
    return [tuple(json.loads(line)) for line in answer.stdout.splitlines()]


@pytest.fixture
def bridged(start: Start, guest: Path, network: str) -> Callable[..., Monitor]:
    """The host's own network is the client: what it sends through tap1 the guest sends on through the card with the service."""

    def begin(version: str, *options: str) -> Monitor:
        ip("-n", network, "address", "add", "169.254.0.2/16", "dev", "tap1")
        monitor = start(*options, prefix=inside(network))
        for number in (0, 1):
            monitor.ok("PUT", f"/network-interfaces/eth{number}", card(number))
        monitor.ok("PUT", "/mmds/config", {"network_interfaces": ["eth0"], "version": version})
        monitor.ok("PUT", "/mmds", {"latest": {"meta-data": {"id": "i-1", "n": 7, "big": "x" * 40_000}}})
        monitor.boot(guest, "test=net-bridge")
        monitor.read_until("ready\n")
        return monitor

    return begin


JSON = {"Accept": "application/json"}


def test_metadata_version_1(bridged: Callable[[str], Monitor], network: str) -> None:
    monitor = bridged("V1")
    requests = [
        ("GET", "/latest/meta-data/", {}),
        ("GET", "/latest/meta-data/id", {}),
        ("GET", "/latest/meta-data/id", JSON),
        ("GET", "/latest/meta-data/n", {}),
        ("GET", "/nothing", {}),
        ("DELETE", "/latest", {}),
        ("GET", "/latest/meta-data/big", {}),
    ]
    answers = ask(network, *requests)
    assert answers[0] == (200, "big\nid\nn")
    assert answers[1:3] == [(200, "i-1"), (200, '"i-1"')]
    assert [status for status, _ in answers[3:6]] == [501, 404, 405]
    assert answers[6] == (200, "x" * 40_000)
    monitor.ok("PATCH", "/mmds", {"latest": {"meta-data": {"id": "i-2"}}})
    assert ask(network, requests[1]) == [(200, "i-2")]


def test_metadata_version_2_wants_tokens(bridged: Callable[[str], Monitor], network: str) -> None:
    bridged("V2")
    answers = ask(
        network,
        ("GET", "/latest/meta-data/id", {}),
        ("GET", "/latest/meta-data/id", {"X-metadata-token": "guess"}),
        ("PUT", "/latest/api/token", {}),
        ("PUT", "/latest/api/token", {"X-metadata-token-ttl-seconds": "60"}),
        ("GET", "/latest/meta-data/id", {"X-metadata-token": "TOKEN"}),
    )
    assert [status for status, _ in answers] == [401, 401, 400, 200, 200]
    assert answers[4][1] == "i-1"


def test_metadata_of_a_megabyte(bridged: Callable[..., Monitor], network: str) -> None:
    monitor = bridged("V1", "--http-api-max-payload-size", str(4 << 20))
    names = {f"name-{number:06}-{'x' * 40}": "" for number in range(20_000)}
    monitor.ok("PUT", "/mmds", {"names": names})
    assert ask(network, ("GET", "/names", {})) == [(200, "\n".join(names))]


def test_many_connections_at_once_and_after_each_other(bridged: Callable[[str], Monitor], network: str) -> None:
    bridged("V1")
    code = """
import http.client
open_ones = []
for number in range(12):
    connection = http.client.HTTPConnection("169.254.169.254", timeout=20)
    connection.connect()
    open_ones.append(connection)
for number in range(12):
    connection = http.client.HTTPConnection("169.254.169.254", timeout=20)
    connection.request("GET", "/latest/meta-data/id")
    assert connection.getresponse().read() == b"i-1"
    connection.close()
"""
    subprocess.run([*inside(network), sys.executable, "-I", "-c", code], check=True, timeout=60)

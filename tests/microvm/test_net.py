"""The network card: frames with checked contents, limits, and the metadata service asked by Linux's own TCP."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microvm.monitor import Monitor, engine
from microvm.taps import ETHERTYPE, IFF_VNET_HDR, MAC, TAP_FLAGS, echoes, inside, open_tap, packet_socket

Start = Callable[..., Monitor]


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


def card(number: int = 0, **more: object) -> dict[str, object]:
    return {"iface_id": f"eth{number}", "host_dev_name": f"tap{number}", **more}


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


def test_a_tap_that_was_open_already(start: Start, guest: Path, network: str) -> None:
    """By a descriptor, in a monitor that is in another network. A card without a tap has nothing at its other end."""
    fd = open_tap(network)
    monitor = start("--tap-fd", f"eth0={fd}", pass_fds=(fd,))
    os.close(fd)
    for number in (0, 1):
        monitor.ok("PUT", f"/network-interfaces/eth{number}", card(number, host_dev_name=""))
    monitor.boot(guest, "test=net-echo")
    monitor.read_until("mac 000000000000\n")
    frames = [b"." + os.urandom(size - 1) for size in (46, 499, 1500)]
    with packet_socket(network) as stream:
        assert echoes(stream, frames) == frames


@pytest.mark.parametrize(
    ("card_id", "flags", "text"),
    [
        ("eth0", 0, f"(os error {errno.ENOTTY})"),
        ("eth0", TAP_FLAGS & ~IFF_VNET_HDR, "no tap whose frames have a virtio header"),
        ("eth9", TAP_FLAGS, "--tap-fd eth9: the machine has no such network interface"),
        ("eth/0", TAP_FLAGS, "a network interface's id and a descriptor"),
    ],
)
def test_taps_that_are_none_or_nobodys(tmp_path: Path, guest: Path, network: str, card_id: str, flags: int, text: str) -> None:
    fd = open_tap(network, flags) if flags else os.open("/dev/null", os.O_RDWR)
    boot = {"kernel_image_path": str(guest), "boot_args": "test=net-echo"}
    (tmp_path / "config").write_text(json.dumps({"boot-source": boot, "network-interfaces": [card(host_dev_name="")]}))
    words = [str(engine()), "vmm", "--no-api", "--config-file", str(tmp_path / "config"), "--tap-fd", f"{card_id}={fd}"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=(fd,), text=True, timeout=20, check=False)
    os.close(fd)
    assert (done.returncode != 0, text in done.stderr) == (True, True), done.stderr


def test_copies_have_taps_and_addresses_of_their_own(start: Start, guest: Path, network: str, tmp_path: Path) -> None:
    """Of a snapshot: by a name, by a descriptor, and none; of a fork. What is sent to one comes to no other."""
    for number in range(2, 5):
        ip("-n", network, "tuntap", "add", f"tap{number}", "mode", "tap")
        subprocess.run([*inside(network), "sysctl", "-qw", f"net.ipv6.conf.tap{number}.disable_ipv6=1"], check=True)
        ip("-n", network, "link", "set", f"tap{number}", "up")
    monitor = start(prefix=inside(network))
    monitor.ok("PUT", "/network-interfaces/eth0", card(1, iface_id="eth0", guest_mac=MAC))
    monitor.boot(guest, "test=net-echo")
    monitor.read_until("mac 0600ac100002\n")
    monitor.ok("PATCH", "/vm", {"state": "Paused"})
    files = {"snapshot_path": str(tmp_path / "state"), "mem_file_path": str(tmp_path / "memory")}
    monitor.ok("PUT", "/snapshot/create", files)
    monitor.ok("PATCH", "/vm", {"state": "Resumed"})
    one = {"iface_id": "eth0", "host_dev_name": "tap{}", "guest_mac": "06:00:ac:10:01:0{}"}
    same = [{"api_sock": str(tmp_path / "same")}]
    assert "an interface of its own for eth0" in monitor.fault("PUT", "/casemate/fork", {"children": same})
    children = [
        {
            "api_sock": str(tmp_path / f"child{number}"),
            "network_overrides": [{name: text.replace("{}", str(number)) for name, text in one.items()}],
        }
        for number in (2, 3)
    ]
    forked = monitor.ok("PUT", "/casemate/fork", {"children": children})["children"]
    try:
        fd = open_tap(network)
        loads = {"tap4": {**one, "host_dev_name": "tap4", "guest_mac": "06:00:ac:10:01:04"}, "": {**one, "host_dev_name": ""}}
        for number, (name, change) in enumerate(loads.items()):
            if not name:
                del change["guest_mac"]
            (tmp_path / str(number)).mkdir()
            options = ("--tap-fd", f"eth0={fd}") if not name else ()
            copy = start(*options, prefix=inside(network), pass_fds=(fd,), folder=tmp_path / str(number))
            backend = {"backend_type": "File", "backend_path": files["mem_file_path"]}
            order = {"snapshot_path": files["snapshot_path"], "mem_backend": backend, "network_overrides": [change], "resume_vm": True}
            copy.ok("PUT", "/snapshot/load", order)
        os.close(fd)
        expected = {"tap0": "0600ac100002", "tap1": "0600ac100002", "tap2": "0600ac100102", "tap3": "0600ac100103", "tap4": "0600ac100104"}
        for tap, mac in expected.items():
            with packet_socket(network, tap) as stream:
                assert echoes(stream, [b"?" + bytes(59)])[0][1:7].hex() == mac, tap
    finally:
        for child in forked:
            os.kill(child["pid"], signal.SIGKILL)


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

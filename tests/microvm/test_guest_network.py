"""A guest in the place of a container's interface, and who is at the other end of that."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import Bundle, leftovers
from microvm.wire import CONTENT, MAC, MTU, Wire, ip
from pod import KIND, SANDBOX_ID, Pod

HYPERVISORS = ("uml", "qemu", "booted")  # the last: QEMU without a template
# What the guest sees of its network, and what it gets from the other end. Its own server's files are in /www.
SCRIPT = """
busybox ip -o link show eth0; busybox ip -o addr show eth0; busybox ip route; busybox ip -6 route; busybox arp -n
for place in 192.168.7.1 '[fd00:7::1]' 172.31.7.1; do busybox wget -q -O - "http://$place/content" | busybox md5sum; done
busybox httpd -p 80 -h /www && echo asked
exec sleep 1000
"""
ASKED = "busybox wget -q -O - http://192.168.7.1/content | busybox md5sum; echo asked; exec sleep 1000"


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=HYPERVISORS)
def bundle(tmp_path: Path, wire: Wire, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    hypervisor = str(request.param)
    if hypervisor == "booted":
        hypervisor = "qemu"
        monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {"dev.casemate.isolation": "microvm", "dev.casemate.hypervisor": hypervisor}
    (made.rootfs / "www").mkdir()
    (made.rootfs / "www/said").write_text("by the guest\n")
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def in_namespace(bundle: Bundle, path: str) -> None:
    namespaces = [entry for entry in bundle.config["linux"]["namespaces"] if entry["type"] != "network"]
    bundle.config["linux"]["namespaces"] = [*namespaces, {"type": "network", "path": path} if path else {"type": "network"}]


def wait_for_output(bundle: Bundle, last: str) -> str:
    """What the container has said, up to the line `last`: it has its creator's streams, which are a file."""
    deadline = time.monotonic() + 30
    while True:
        said = (bundle.directory / "said").read_text()
        if last in said.splitlines():
            return said
        assert time.monotonic() < deadline, said + (bundle.directory / "err").read_text()
        time.sleep(0.01)


def create(bundle: Bundle, script: str) -> int:
    bundle.config["process"]["args"] = ["sh", "-c", f"exec >/said; {script}"]
    bundle.write()
    bundle.verb("create", "--bundle", str(bundle.directory), bundle.id, check=True)
    (bundle.directory / "said").symlink_to(bundle.rootfs / "said")
    (bundle.rootfs / "said").touch()
    return int(bundle.state_document()["pid"])


def assert_has_the_network(said: str) -> None:
    assert f"mtu {MTU} " in said
    assert f"link/ether {MAC} " in said
    assert "inet 192.168.7.2/24 brd 192.168.7.255 scope global eth0" in said
    assert "inet6 fd00:7::2/64 scope global" in said
    assert "default via 192.168.7.1 dev eth0  metric 50" in said
    assert "172.31.0.0/16 via 192.168.7.1 dev eth0" in said
    assert "default via fd00:7::1 dev eth0  metric 60" in said
    assert "02:00:00:00:00:77" in said
    digest = subprocess.run(["md5sum"], input=CONTENT, capture_output=True, check=True).stdout.split()[0].decode()
    assert said.split().count(digest) == 3, said


def test_the_guest_has_what_its_namespace_has(bundle: Bundle, wire: Wire) -> None:
    """Both protocols, both directions; then a death of all at once, and nothing stays in the namespace."""
    wire.lay()
    wire.lay_another()
    in_namespace(bundle, wire.path)
    pid = create(bundle, "busybox wget -q -O - http://10.7.7.1/content | wc -c; " + SCRIPT)
    bundle.verb("start", bundle.id, check=True)
    said = wait_for_output(bundle, "asked")
    assert said.splitlines()[0] == str(len(CONTENT))
    assert_has_the_network(said)
    for place in ("192.168.7.2", "[fd00:7::2]"):
        assert wire.fetch(place) == "by the guest\n"
    assert len(wire.left()) == 6, "of each interface a tap, and what turns frames round on it and on the interface"
    os.kill(pid, signal.SIGKILL)
    bundle.verb("delete", "--force", bundle.id, check=True)
    assert wire.left() == []
    assert "192.168.7.2" in ip("-n", wire.near, "addr"), "the interface itself is not ours"


@pytest.mark.parametrize("bundle", ["uml", "qemu"], indirect=True)
def test_interfaces_that_come_before_the_start(bundle: Bundle, wire: Wire) -> None:
    """As `ctr run --cni` and Docker give them: to the namespace of a container that was created."""
    in_namespace(bundle, "")
    pid = create(bundle, SCRIPT)
    wire.lay(str(pid))
    bundle.verb("start", bundle.id, check=True)
    assert_has_the_network(wait_for_output(bundle, "asked"))
    assert wire.fetch("192.168.7.2") == "by the guest\n"


def test_an_interface_has_one_machine_and_outlives_it(tmp_path: Path, wire: Wire) -> None:
    """A second machine in the same namespace is refused, and takes the place of one that was killed and never deleted."""
    wire.lay()
    machines = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        made = Bundle(tmp_path / name, "casemate")
        made.config["annotations"] = {"dev.casemate.isolation": "microvm", "dev.casemate.hypervisor": "uml"}
        in_namespace(made, wire.path)
        machines.append(made)
    one, two, three = machines
    try:
        pid = create(one, ASKED)
        one.verb("start", one.id, check=True)
        wait_for_output(one, "asked")
        create(two, ASKED)
        refused = two.verb("start", two.id)
        assert (refused.returncode != 0, "eth0 is another machine's already" in refused.stderr) == (True, True)
        assert two.status() == "stopped"
        assert wire.answers("192.168.7.2"), "the first goes on"
        os.kill(pid, signal.SIGKILL)
        create(three, ASKED)
        three.verb("start", three.id, check=True)
        wait_for_output(three, "asked")
        one.verb("delete", "--force", one.id, check=True)
        assert len(wire.left()) == 3, "the end of one machine takes nothing from another"
    finally:
        for made in machines:
            made.close()
    assert wire.left() == []


def test_containers_of_a_pod_have_one_network(tmp_path: Path, wire: Wire) -> None:
    wire.lay()
    pod = Pod(tmp_path, "microvm")
    try:
        annotations = {KIND: "sandbox", SANDBOX_ID: pod.id, "dev.casemate.isolation": "microvm", "dev.casemate.hypervisor": "uml"}
        pod.start("pause", "sleep", "1000", kind="sandbox", annotations=annotations, network=wire.path)
        script = (
            "busybox ip -o addr show eth0 > /shared/addresses; busybox wget -q -O - http://192.168.7.1/content | busybox wc -c > /shared/bytes; exec sleep 1000"
        )
        member = pod.start("member", "sh", "-c", script, network=f"/proc/{pod.pid(pod.id)}/ns/net")
        assert pod.shared("bytes") == f"{len(CONTENT)}\n"
        assert "192.168.7.2/24" in pod.shared("addresses")
        pod.verb("delete", "--force", member)
        assert wire.answers("192.168.7.2"), "it went with the member"
    finally:
        pod.close()
    assert wire.left() == []


@pytest.mark.parametrize("bundle", ["uml"], indirect=True)
def test_the_hosts_own_network_is_refused(bundle: Bundle) -> None:
    in_namespace(bundle, f"/proc/{os.getpid()}/ns/net")
    refused = bundle.run("true")
    assert (refused.returncode != 0, "cannot give a program the host's network" in refused.stderr) == (True, True)

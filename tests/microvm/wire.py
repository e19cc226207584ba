"""Two network namespaces with a veth pair between them, as podman and CNI make it: one for a container, in the other somebody who is asked and asks."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

MAC, MTU = "02:42:c0:a8:07:02", 1400
CONTENT = bytes(range(256)) * 4096  # a megabyte: segments, acknowledgements, both ways of each queue many times round
SERVER = """
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
server = Server(("::", 80), lambda *words: http.server.SimpleHTTPRequestHandler(*words, directory=sys.argv[1]))
print("ready", flush=True)
server.serve_forever()
"""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


class Wire:
    """Two namespaces: `far` with a server of HTTP, `near` for a container. Between them the veth pair far0 and eth0, once it is `lay`ed."""

    def __init__(self, directory: Path) -> None:
        name = uuid.uuid4().hex[:8]
        self.far, self.near = f"far-{name}", f"near-{name}"
        self.directory = directory / "far"
        self.directory.mkdir()
        (self.directory / "content").write_bytes(CONTENT)
        self.server: subprocess.Popen[str] | None = None
        for namespace in (self.far, self.near):
            ip("netns", "add", namespace)

    @property
    def path(self) -> str:
        return f"/run/netns/{self.near}"

    def lay(self, near: str = "", *, has_ipv6: bool = True) -> None:
        """near: a namespace's name or process, if not the one that is there for it."""
        near = near or self.near
        ip("-n", self.far, "link", "add", "far0", "mtu", str(MTU), "type", "veth", "peer", "name", "eth0", "address", MAC, "mtu", str(MTU), "netns", near)
        for words in (
            "addr add 192.168.7.1/24 dev far0", "addr add fd00:7::1/64 dev far0 nodad", "addr add 172.31.7.1/32 dev lo", "link set far0 up", "link set lo up",
        ):  # fmt: skip
            ip("-n", self.far, *words.split())
        enter = ["ip", "-n", near] if not near.isdecimal() else ["nsenter", "-t", near, "-n", "ip"]
        for words in (
            "addr add 192.168.7.2/24 broadcast 192.168.7.255 dev eth0", "addr add fd00:7::2/64 dev eth0 nodad", "link set eth0 up",
            "route add default via 192.168.7.1 metric 50", "-6 route add default via fd00:7::1 metric 60", "route add 172.31.0.0/16 via 192.168.7.1",
            "neigh add 192.168.7.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
        ):  # fmt: skip
            if has_ipv6 or "fd00" not in words:
                subprocess.run([*enter, *words.split()], check=True)
        self.serve()

    def lay_another(self) -> None:
        """far1 and eth1."""
        ip("-n", self.far, "link", "add", "far1", "type", "veth", "peer", "name", "eth1", "netns", self.near)
        for namespace, words in ((self.far, "addr add 10.7.7.1/30 dev far1"), (self.near, "addr add 10.7.7.2/30 dev eth1")):
            ip("-n", namespace, *words.split())
            ip("-n", namespace, "link", "set", words.split()[-1], "up")

    def serve(self) -> None:
        words = ["ip", "netns", "exec", self.far, sys.executable, "-I", "-c", SERVER, str(self.directory)]
        self.server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.server.stdout
        assert self.server.stdout.readline() == "ready\n"

    def fetch(self, place: str) -> str:
        words = ["ip", "netns", "exec", self.far, "curl", "--silent", "--show-error", "--globoff", "--max-time", "20", f"http://{place}/said"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def answers(self, address: str) -> bool:
        words = ["ip", "netns", "exec", self.far, "busybox", "ping", "-c", "1", "-W", "10", "-q", address]
        return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0

    def left(self) -> list[str]:
        """What of a machine is in the namespace that it had: taps, qdiscs."""
        links = [link["ifname"] for link in json.loads(ip("-n", self.near, "-j", "link"))]
        shown = subprocess.run(["tc", "-n", self.near, "qdisc"], capture_output=True, text=True, check=True).stdout
        return [name for name in links if name.startswith("casemate")] + [line for line in shown.splitlines() if "ingress" in line]

    def close(self) -> None:
        if self.server:
            self.server.kill()
            self.server.communicate()
        for namespace in (self.far, self.near):
            ip("netns", "delete", namespace)

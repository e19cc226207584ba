"""The network of a guest in the place of a container's interface, by hypervisor: a round trip, and how much goes through a stream of TCP in each direction. A
part of `make bench`; a part of `make conformance`, which asks whether what comes through is what was sent.

`python tests/microvm/measure_network.py [HYPERVISOR...]`; the figures are in docs/decisions/2026-11-28-network-of-guests.md.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bundle import CASEMATE, Bundle
from casemate.guest import store
from casemate.hypervisor import registry
from microvm.wire import CONTENT, Wire

STREAM_S, PINGS = 3, 20
PATIENCE_S = 900
# At the other end: asks for a long file, then sends one, and says how many megabits a second there were of each.
METER = """
import socket, sys, time
def measure(peer, step):
    total, began = step(peer), time.monotonic()
    while (spent := time.monotonic() - began) < float(sys.argv[1]):
        total += step(peer)
    print(total * 8e-6 / spent, flush=True)
    peer.close()
listener = socket.create_server(("192.168.7.1", 5001))
asked = socket.create_connection(("192.168.7.2", 80))
asked.sendall(b"GET /long HTTP/1.0\\r\\n\\r\\n")
measure(asked, lambda peer: len(peer.recv(1 << 18)))
print("ready", flush=True)
peer, _ = listener.accept()
peer.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
measure(peer, lambda peer: peer.send(bytes(1 << 18)))
"""
# Of a container: what it gets and gives first, then, once it hears of it, a stream. (The long file is a hole: nothing but the network is asked for it.)
SCRIPT = """
busybox ip -4 -o addr show eth0; busybox wget -q -O - http://192.168.7.1/content | busybox md5sum
busybox truncate -s 8G /www/long; busybox httpd -p 80 -h /www; echo asked
read line; busybox wget -q -O /dev/null http://192.168.7.1:5001/; sleep 1000
"""


class Guest:
    """A container on a `wire` that runs SCRIPT, as a guest under `hypervisor`; without a name, as a process of the host."""

    def __init__(self, directory: Path, wire: Wire, hypervisor: str) -> None:
        directory.mkdir()
        directory.chmod(0o755)
        self.wire = wire
        self.bundle = Bundle(directory, "casemate")
        annotations = {"dev.casemate.isolation": "namespaces"}
        if hypervisor:
            # What an emulated kernel takes longest over is its memory, and a root that comes over the agent's stream.
            annotations = {"dev.casemate.isolation": "microvm", "dev.casemate.hypervisor": hypervisor, "dev.casemate.root-image": "memory"}
            self.bundle.config["linux"].setdefault("resources", {})["memory"] = {"limit": 64 << 20}
        self.bundle.config["annotations"] = annotations
        self.bundle.config["process"]["args"] = ["sh", "-c", SCRIPT]
        namespaces = [entry for entry in self.bundle.config["linux"]["namespaces"] if entry["type"] != "network"]
        self.bundle.config["linux"]["namespaces"] = [*namespaces, {"type": "network", "path": wire.path}]
        (self.bundle.rootfs / "www").mkdir()
        (self.bundle.rootfs / "www/said").write_text("by the guest\n")
        self.bundle.write()
        self.said = directory / "said"
        self.input, theirs = os.pipe()[::-1]
        try:
            with self.said.open("w") as out:
                self.verb("create", "--bundle", str(directory), self.bundle.id, stdin=theirs, stdout=out)
        finally:
            os.close(theirs)

    def verb(self, *words: str, stdin: int = subprocess.DEVNULL, stdout: object = None) -> None:
        """Errors go to a file: a container keeps what it inherits."""
        with (self.bundle.directory / "err").open("w+") as errors:
            line = [CASEMATE, "--root", str(self.bundle.state), *words]
            done = subprocess.run(line, stdin=stdin, stdout=stdout, stderr=errors, timeout=PATIENCE_S, check=False)  # type: ignore[call-overload]
            errors.seek(0)
            assert done.returncode == 0, f"{words[0]}: {errors.read().strip()}"

    def start(self) -> list[str]:
        """What it says until it has asked and answers."""
        self.verb("start", self.bundle.id)
        deadline = time.monotonic() + PATIENCE_S
        while "asked\n" not in self.said.read_text():
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.05)
        return self.said.read_text().splitlines()

    def round_trips_ms(self) -> tuple[float, float]:
        """The shortest and the average."""
        words = ["ip", "netns", "exec", self.wire.far, "busybox", "ping", "-q", "-c", str(PINGS), "-i", "0.05", "192.168.7.2"]
        said = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
        assert f"{PINGS} packets received" in said, said
        shortest, average, _ = said.split("= ")[1].split()[0].split("/")
        return float(shortest), float(average)

    def streams(self) -> tuple[float, float]:
        """Megabits a second that it sends, and that it receives."""
        words = ["ip", "netns", "exec", self.wire.far, sys.executable, "-I", "-c", METER, str(STREAM_S)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as meter:
            assert meter.stdout
            try:
                sent = float(meter.stdout.readline())
                assert meter.stdout.readline() == "ready\n"
                os.write(self.input, b"\n")
                received = float(meter.stdout.readline())
            finally:
                meter.kill()
        return sent, received

    def close(self) -> None:
        os.close(self.input)
        self.bundle.close()


def measure(hypervisor: str, directory: Path) -> str:
    """The figures in a line. Raises AssertionError for what did not come through."""
    wire = Wire(directory)
    try:
        wire.lay(has_ipv6=False)  # which the kernel for a poor KVM has not
        began = time.monotonic()
        guest = Guest(directory / "guest", wire, hypervisor)
        try:
            said = guest.start()
            seconds = time.monotonic() - began
            assert "inet 192.168.7.2/24 " in said[0], said
            assert said[1].split()[0] == hashlib.md5(CONTENT).hexdigest(), said
            assert wire.fetch("192.168.7.2") == "by the guest\n"
            shortest, average = guest.round_trips_ms()
            sent, received = guest.streams()
        finally:
            guest.close()
        assert wire.left() == []
    finally:
        wire.close()
    return (
        f"created to a megabyte received {seconds:.1f} s; round trip {shortest:.3f} ms, average {average:.3f}; sends {sent:.1f} Mbit/s, receives {received:.1f}"
    )


def lacking(hypervisor: str) -> str:
    """Why this host cannot run it; nothing if it can."""
    verdict = registry.get(hypervisor).probe()
    return "" if verdict.ok else verdict.reason


def main() -> None:
    for name in sys.argv[1:] or ("", *registry.NAMES):
        title = name or "no guest"
        # Not below a temporary directory that a hypervisor's ids may not enter.
        with tempfile.TemporaryDirectory(dir=store.prepare()) as made:
            Path(made).chmod(0o755)
            why = lacking(name) if name else ""
            print(f"{title:9}", why or measure(name, Path(made)), flush=True)


if __name__ == "__main__":
    main()

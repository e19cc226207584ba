"""Our monitor as a hypervisor of the isolation: started, jailed, restored, lost and cleaned up, with small guests in Linux' place. With Linux, whose kernel
takes minutes to build and a minute to boot where KVM emulates it, `make conformance` runs programs (tests/conformance/microvm/programs.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import Bundle
from casemate.guest import kernels
from casemate.host.probe import has_virtualisation
from casemate.hypervisor.casemate import Casemate
from microvm.monitor import wait_for
from microvm.processes import LENT, check, command, status, tree
from microvm.wire import Wire

# The command line as it is, with other words for the guest's kernel and less patience.
START = """
import sys
from casemate.hypervisor import casemate, template
casemate._BOOT, casemate.EMULATED, casemate._EMULATED_BOOT_S = sys.argv[1], "", int(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
from casemate.cli.main import main
sys.exit(main())
"""
ANNOTATIONS = {"isolation": "microvm", "hypervisor": "casemate", "root-image": "memory"}


@pytest.fixture
def small(guest: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store whose kernel is the small guest. Not below pytest's directory, which a hypervisor's ids may not enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        for name in (kernels.OURS, kernels.POOR_KVM):
            kernel = Path(made, "kernels", name)
            kernel.mkdir(parents=True)
            (kernel / "vmlinux").write_bytes(guest.read_bytes())
            (kernel / "kernel.json").write_text(json.dumps({"release": "small", "modules": []}))
        root = Path(made, "root")
        root.mkdir()
        (root / "file").write_text("of the root\n")
        monkeypatch.setenv("CASEMATE_GUEST", made)
        yield Path(made)


def words(small: Path, tmp_path: Path, boot: str, *, seconds: int = 30) -> list[str]:
    options = ["--isolation=microvm", "--hypervisor=casemate", "--rootfs", str(small / "root"), "--root-image=memory"]
    return [sys.executable, "-c", START, boot, str(seconds), "--root", str(tmp_path / "state"), "do", *options, "--", "true"]


def run(small: Path, tmp_path: Path, boot: str, *, seconds: int = 30) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words(small, tmp_path, boot, seconds=seconds), capture_output=True, text=True, timeout=60, check=False)
    assert [name for name in os.listdir(tmp_path / "state") if not name.startswith(".")] == []
    return done


def templates(small: Path) -> list[Path]:
    return [path for path in (small / "templates").iterdir() if not path.name.startswith(".")]


def monitor_below(pid: int) -> int:
    """The monitor that runs a guest; 0: not yet."""
    return next((each for each in tree(pid) if b"\0vmm\0" in Path(f"/proc/{each}/cmdline").read_bytes() and status(each)["Seccomp"] == "2"), 0)


def of_threads(pid: int, name: str) -> list[str]:
    """The file of this name of each thread that is there."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob(f"*/{name}"):
        try:
            found.append(file.read_text())
        except OSError:
            continue  # it ended meanwhile
    return found


def wait_for_monitor(running: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + 20
    while True:
        try:
            if found := monitor_below(running.pid):
                return found
        except OSError:
            pass  # one that ended meanwhile
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("victim", ["monitor", "relay"])
def test_a_monitor_is_jailed_and_its_end_is_everybodys(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    """Nothing is in its root but what the machine is made of; KVM comes as a descriptor. Whichever is killed, all ends."""
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    pipe = subprocess.PIPE
    with subprocess.Popen(words(small, tmp_path, "quiet"), stdout=pipe, stderr=pipe, text=True) as running:
        monitor = wait_for_monitor(running)
        relay = int(status(monitor)["PPid"])
        root = int(status(relay)["Uid"].split()[0]) // 65536 * 65536
        assert root in LENT
        assert check(relay, range(root + 65535, root + 65536), root) == {command(relay), "/proc/self/exe"}
        places = {line.split()[4] for line in Path(f"/proc/{monitor}/mountinfo").read_text().splitlines()}
        assert {"/guest/kernel", "/guest/agent", "/guest/root"} <= places
        assert not [place for place in places if place.startswith("/usr")]
        shown = [Path(f"/proc/{monitor}/root/{name}") for name in ("share/root/file", "usr/bin")]
        assert not [path for path in shown if path.exists()]
        wait_for(lambda: "vcpu0" in "".join(of_threads(monitor, "comm")))
        threads = of_threads(monitor, "status")
        assert len(threads) >= 2
        assert all("\nSeccomp:\t2\n" in text and "\nCapEff:\t0000000000000000\n" in text for text in threads)
        os.kill(monitor if victim == "monitor" else relay, signal.SIGKILL)
        _, said = running.communicate(timeout=20)
    assert running.returncode != 0
    if victim == "monitor":
        assert "the virtual machine ended" in said
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (monitor, relay)))


def test_what_a_guest_says_at_its_end_is_told(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    done = run(small, tmp_path, "test=none")
    assert (done.returncode, "the virtual machine ended: " in done.stderr) == (125, True), done.stderr


def test_a_guest_that_does_not_come_up_is_given_up(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    done = run(small, tmp_path, "quiet", seconds=1)
    assert (done.returncode, "the guest did not come up within 1 s" in done.stderr) == (125, True), done.stderr


def test_a_machine_is_restored_and_hears_its_relay(small: Path, tmp_path: Path) -> None:
    """The guest answers in capitals, which is no word of an agent's: so it came from a copy that was spoken to, by its own stream."""
    for _ in range(2):
        done = run(small, tmp_path, "test=agent")
        assert done.returncode == 125
        assert "the guest: the peer broke the protocol" in done.stderr, done.stderr
    (found,) = templates(small)
    assert sorted(path.name for path in found.iterdir()) == ["memory", "state"]
    # Only what the guest has touched.
    assert sum(path.stat().st_blocks for path in found.iterdir()) * 512 < 16 << 20


def test_a_machine_of_a_template_gets_its_taps(small: Path, tmp_path: Path) -> None:
    """Its monitor starts with them, or would have said so before the guest says a word; they go with it. A template without cards is another one."""
    wire = Wire(tmp_path)
    try:
        wire.lay()
        wire.lay_another()
        bundle = Bundle(tmp_path, "casemate")
        bundle.config["annotations"] = {f"dev.casemate.{name}": value for name, value in ANNOTATIONS.items()}
        namespaces = bundle.config["linux"]["namespaces"]
        bundle.config["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] != "network"] + [{"type": "network", "path": wire.path}]
        bundle.write()
        line = [sys.executable, "-c", START, "test=agent", "30", "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), bundle.id]
        for _ in range(2):
            done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode != 0, "the guest: the peer broke the protocol" in done.stderr) == (True, True), done.stderr
        assert wire.left() == []
    finally:
        wire.close()
    assert len(templates(small)) == 1
    run(small, tmp_path, "test=agent")
    assert len(templates(small)) == 2


def test_cards_have_the_addresses_that_the_agent_looks_for(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    machine = Casemate().machine(128, has_cards=True)
    assert machine.card == ["--tap-fd", "eth{place}={tap}"]
    cards = json.loads(machine.documents["machine"])["network-interfaces"]
    assert len(cards) == (8 if has_virtualisation() else 4)
    assert cards[3] == {"iface_id": "eth3", "host_dev_name": "", "guest_mac": "02:63:6d:00:00:03"}
    assert "network-interfaces" not in json.loads(Casemate().machine(128).documents["machine"])


def test_directories_come_over_the_agents_stream(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor has no device for them; where all is an image, nothing serves any."""
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    machine = Casemate().machine(128)
    assert (machine.share, machine.helpers) == ("protocol", [])
    assert Casemate().machine(128, "none").share == ""


@pytest.mark.parametrize("name", [kernels.OURS, kernels.POOR_KVM])
def test_the_probe_says_which_kernel_is_lacking(small: Path, name: str) -> None:
    """Where KVM emulates kernels, it is one that is built for that."""
    is_needed = has_virtualisation() == (name == kernels.OURS)
    assert Casemate().probe().ok
    (small / "kernels" / name / "kernel.json").unlink()
    verdict = Casemate().probe()
    assert verdict.ok != is_needed
    if is_needed:
        assert ("kernel install cloud" if has_virtualisation() else "kernel build poor-kvm") in verdict.remedy
        assert Casemate().kernel_to_install() == ("cloud" if has_virtualisation() else "")

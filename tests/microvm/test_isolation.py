"""The `microvm` isolation on each hypervisor that runs here without KVM: `do` and the OCI verbs, each with a real Linux guest.

A guest takes seconds to boot, so one boot answers many questions.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE, Bundle, leftovers
from casemate.hypervisor import registry

HYPERVISORS = ("uml", "qemu")
BOOT_S = 60  # the most that one boot and its program may take


@pytest.fixture(params=HYPERVISORS)
def hypervisor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    monkeypatch.setenv("CASEMATE_HYPERVISOR", name)
    verdict = registry.get(name).probe()
    assert verdict.ok, f"{name}: {verdict.reason}: make setup installs it"
    return name


@pytest.fixture
def uml(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what does not depend on the hypervisor: the one that boots soonest."""
    monkeypatch.setenv("CASEMATE_HYPERVISOR", "uml")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    yield path
    assert [name for name in os.listdir(path) if not name.startswith((".collected", ".next-ids"))] == []


@pytest.fixture
def bundle(tmp_path: Path, hypervisor: str) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {"dev.casemate.isolation": "microvm"}
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def command(state: Path, *words: str) -> list[str]:
    return [CASEMATE, "--root", str(state), "do", "--isolation=microvm", *words]


def do(state: Path, *words: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(state, *words), capture_output=True, text=True, input=input, timeout=BOOT_S, check=False)


def wait_for(bundle: Bundle, status: str) -> None:
    deadline = time.monotonic() + 10
    while bundle.status() != status:
        assert time.monotonic() < deadline, bundle.status()
        time.sleep(0.01)


SCRIPT = """
import json, os, sys
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
try:
    open("/proc/sys/kernel/hostname", "w")
    writable = True
except OSError:
    writable = False
print(json.dumps({
    "release": os.uname().release, "hostname": os.uname().nodename, "pid": os.getpid(), "uid": os.getuid(), "stdin": sys.stdin.read(),
    "capabilities": status["CapBnd"], "seccomp": status["Seccomp"], "no_new_privs": status["NoNewPrivs"], "writable": writable,
    "hidden": os.listdir("/home"), "interfaces": os.listdir("/sys/class/net"), "argument": sys.argv[1], "variable": os.environ["V"],
}))
print("to stderr", file=sys.stderr)
with open("/etc/made", "w") as file:
    file.write("in the guest")
sys.exit(7)
"""


def test_do_runs_python_on_a_kernel_of_its_own(state: Path, hypervisor: str, tmp_path: Path) -> None:
    """Streams, exit code, environment, and the walls inside of the guest are those of every isolation; what was written is the sandbox's layer."""
    began = time.monotonic()
    words = ["--env", "V=a value", "--diff", "--commit", str(tmp_path / "out"), "--", "/usr/bin/python3", "-I", "-c", SCRIPT, "an argument"]
    done = do(state, *words, input="said to it")
    assert time.monotonic() - began < BOOT_S
    assert done.returncode == 7, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("release") != os.uname().release
    assert seen == {
        "hostname": "sandbox", "pid": 1, "uid": 0, "stdin": "said to it", "capabilities": "0" * 16, "seccomp": "2", "no_new_privs": "1", "writable": False,
        "hidden": [], "interfaces": ["lo"], "argument": "an argument", "variable": "a value",
    }  # fmt: skip
    assert done.stderr == "to stderr\nA /etc/made\n"
    assert (tmp_path / "out/etc/made").read_text() == "in the guest"


def test_do_says_what_cannot_be_executed(state: Path, uml: None) -> None:
    done = do(state, "--", "no-such-program")
    assert (done.returncode, "not found" in done.stderr) == (127, True)


def test_a_hypervisor_that_is_not_there_is_named(state: Path) -> None:
    done = do(state, "--hypervisor", "nonesuch", "--", "true")
    assert (done.returncode, "uml" in done.stderr) == (125, True)


def test_the_hosts_network_is_refused(state: Path, uml: None) -> None:
    """A guest has a network of its own: loopback in place of what was asked for would be a surprise."""
    done = do(state, "--network", "host", "--", "true")
    assert (done.returncode, "cannot give a program the host's network" in done.stderr) == (125, True)
    assert "leave out --network host, and it has loopback only; `do` gives outgoing connections with --isolation=sentry" in done.stderr


def test_the_choice_is_told_once_with_its_reason(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASEMATE_HYPERVISOR", raising=False)
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path / "guest"))
    first, second = (do(state, "--network", "host", "--", "true").stderr for _ in range(2))
    assert "guests are run by uml: the first that can run here" in first
    assert "guests are run by" not in second
    shown = subprocess.run([CASEMATE, "doctor"], capture_output=True, text=True, check=False).stdout
    assert "chosen: the first that can run here" in shown


def test_a_kernel_that_is_missing_is_named_and_installed_on_demand(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes: the command to run. With it, that runs: here as far as a package manager that has no network."""
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path / "guest"))
    words = ["--hypervisor", "qemu", "--", "true"]
    done = do(state, *words)
    assert (done.returncode, "run `casemate kernel install cloud`, or give --yes" in done.stderr) == (125, True)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in (("apt-cache", "echo 'Depends: linux-image-1.2.3'"), ("apt-get", "echo no network >&2; exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    done = do(state, "--yes", *words)
    assert (done.returncode, "downloading linux-image-1.2.3" in done.stderr, "apt-get: no network" in done.stderr) == (125, True, True)


def test_do_passes_signals_and_binds(state: Path, hypervisor: str, tmp_path: Path) -> None:
    """A bind is the host's directory, written to as it happens; a signal to casemate is the program's."""
    (tmp_path / "shared").mkdir()
    script = 'trap "echo caught; exit 9" TERM; echo ready > /shared/ready; while :; do sleep 0.1; done'
    words = command(state, "--bind", f"{tmp_path}/shared:/shared", "--", "sh", "-c", script)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + BOOT_S
        while not (tmp_path / "shared/ready").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("caught\n", 9)


def test_do_gives_a_terminal(state: Path, uml: None) -> None:
    """^C is the guest's terminal's to understand, and its size is the caller's."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(CASEMATE, command(state, "--tty", "--", "sh", "-c", "stty size; trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.1; done"))
    seen = read_until(master, b"ready", BOOT_S)
    os.write(master, b"\x03")
    seen += read_until(master, b"interrupted", 20)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 5


def read_until(master: int, text: bytes, timeout_s: float) -> bytes:
    seen, deadline = b"", time.monotonic() + timeout_s
    while text not in seen:
        left = deadline - time.monotonic()
        assert left > 0, seen
        assert select.select([master], [], [], left)[0], seen
        try:
            part = os.read(master, 4096)
        except OSError:
            part = b""
        assert part, seen
        seen += part
    return seen


def test_streams_carry_megabytes_and_one_that_is_stuck_stops_no_other(state: Path, hypervisor: str) -> None:
    """Standard error is not read until all of standard output has come."""
    script = "head -c 600000 /dev/zero >&2 & head -c 1500000 /dev/zero; cat | wc -c; wait"
    pipe = subprocess.PIPE
    with subprocess.Popen(command(state, "--", "sh", "-c", script), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"x" * 100_000)
        process.stdin.close()
        assert process.stdout.read(1_500_000) == b"\0" * 1_500_000
        assert process.stderr.read() == b"\0" * 600_000
        assert process.stdout.read() == b"100000\n"
    assert process.returncode == 0


def test_the_life_of_a_container(bundle: Bundle) -> None:
    """create, state, start, exec, ps, pause, resume, kill, delete: one guest for all."""
    bundle.create("sh", "-c", "echo $$ > /tmp/pid; trap 'exit 3' TERM; while :; do sleep 0.1; done")
    assert bundle.status() == "created"
    bundle.verb("start", bundle.id, check=True)
    assert bundle.status() == "running"
    done = bundle.verb("exec", bundle.id, "sh", "-c", "cat /tmp/pid; cat; echo err >&2; exit 4", input="in")
    assert (done.stdout, done.stderr, done.returncode) == ("1\nin", "err\n", 4)
    assert bundle.verb("exec", bundle.id, "nosuch").returncode != 0
    assert (bundle.rootfs / "tmp/pid").read_text() == "1\n"
    shown = bundle.verb("ps", bundle.id, check=True).stdout
    assert "sh -c" in shown
    assert "linux" not in shown
    bundle.verb("pause", bundle.id, check=True)
    assert bundle.status() == "paused"
    bundle.verb("resume", bundle.id, check=True)
    assert bundle.verb("exec", bundle.id, "true").returncode == 0
    bundle.verb("kill", bundle.id, "TERM", check=True)
    wait_for(bundle, "stopped")
    bundle.verb("delete", bundle.id, check=True)


def test_what_the_specification_says_holds_in_the_guest(bundle: Bundle, tmp_path: Path) -> None:
    """Limits, capabilities, user, read-only root, masked and read-only paths, volumes: set by the same `init` on the guest's kernel."""
    volume = tmp_path / "volume"
    volume.mkdir()
    bundle.config["root"]["readonly"] = True
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    bundle.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    bundle.config["mounts"].append({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "ro"]})
    done = bundle.shell(
        "id; grep NoNewPrivs /proc/self/status; ulimit -n; touch /x; touch /volume/x; touch /proc/sys/kernel/hostname; cat /proc/kcore | wc -c;"
        "mount -t tmpfs x /tmp; cat /sys/fs/cgroup/main/memory.max /sys/fs/cgroup/main/pids.max"
    )
    assert done.stdout.split("\n")[:4] == ["uid=1000(user) gid=1000 groups=7", "NoNewPrivs:\t1", "1024", "0"]
    assert done.stdout.split("\n")[4:6] == [str(64 << 20), "20"]
    for text in ("/x: Read-only file system", "/volume/x: Read-only file system", "mount: permission denied"):
        assert text in done.stderr, done.stderr


def test_the_state_tells_that_memory_ran_out(bundle: Bundle) -> None:
    bundle.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    bundle.create("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    assert "oomKills" not in bundle.state_document()
    bundle.verb("start", bundle.id, check=True)
    wait_for(bundle, "stopped")
    assert bundle.state_document()["oomKills"] >= 1


@pytest.mark.parametrize("victim", ["relay", "hypervisor"])
def test_a_kill_leaves_nothing(bundle: Bundle, victim: str) -> None:
    """Whichever process of ours is killed, the others end with it, and `delete` finds nothing that it cannot remove."""
    bundle.create("sh", "-c", "while :; do sleep 0.1; done")
    bundle.verb("start", bundle.id, check=True)
    relay = int(bundle.state_document()["pid"])
    children = [int(child) for child in Path(f"/proc/{relay}/task/{relay}/children").read_text().split()]
    assert children
    os.kill(relay if victim == "relay" else children[-1], signal.SIGKILL)
    wait_for(bundle, "stopped")
    bundle.verb("delete", bundle.id, check=True)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.01)

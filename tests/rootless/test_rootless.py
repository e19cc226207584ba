"""`do` and the SDK for a user who has nothing: no root, no subuid ranges, no cgroups. Root's test run becomes that user."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE
from casemate.policy.ids import sub_range
from casemate.runtime.host_root import submounts

UID = 4242
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without privileges")


def become(*command: str) -> list[str]:
    """The command as that user. An interpreter below a closed home can be read, and nothing else be done with that capability."""
    words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    closed = any(not stat.S_IMODE(parent.stat().st_mode) & 1 for parent in Path(sys.executable).resolve().parents)
    if closed:
        words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*words, *command]


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    path = Path(f"/tmp/casemate-test-{os.getpid()}")
    path.mkdir(mode=0o700)
    os.chown(path, UID, UID)
    yield path
    left = [inner.name for inner in path.glob("casemate/*") if inner.name != ".collected"]
    shutil.rmtree(path)
    assert left == []


def run(runtime_dir: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(runtime_dir), "CASEMATE_GUEST": str(runtime_dir / "guest")}
    return subprocess.run(become(*command), env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def do(runtime_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(runtime_dir, CASEMATE, "do", *words)


def test_output_and_exit_code(runtime_dir: Path) -> None:
    done = do(runtime_dir, "--", "sh", "-c", "id -u; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "err\n", 7)


def test_the_sentry_needs_no_root(runtime_dir: Path) -> None:
    done = do(runtime_dir, "--isolation=sentry", "--", "sh", "-c", "id -u; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 7)


@pytest.mark.skipif(not Path("/usr/bin/linux.uml").exists(), reason="needs User Mode Linux")
@pytest.mark.parametrize("network", [(), ("--network", "none")])
def test_a_guest_has_loopback(runtime_dir: Path, network: tuple[str, ...]) -> None:
    script = "wc -l < /proc/net/dev; exec 3<> /dev/udp/127.0.0.1/7; echo sent >&3 && echo loopback"
    done = do(runtime_dir, "--isolation=microvm", "--hypervisor=uml", *network, "--", "bash", "-c", script)
    assert (done.stdout, done.returncode) == ("3\nloopback\n", 0), done.stderr


def test_a_guest_is_not_given_the_hosts_network(runtime_dir: Path) -> None:
    done = do(runtime_dir, "--isolation=microvm", "--hypervisor=uml", "--network", "host", "--", "true")
    assert done.returncode == 125
    assert "leave out --network host, and it has loopback only" in done.stderr


def test_the_host_is_seen_and_not_changed(runtime_dir: Path) -> None:
    done = do(runtime_dir, "--diff", "--", "sh", "-c", "echo x > /usr/casemate-was-here; ls /usr/casemate-was-here /root /home")
    assert "/usr/casemate-was-here" in done.stdout
    assert "A /usr/casemate-was-here" in done.stderr
    assert not Path("/usr/casemate-was-here").exists()


def test_it_is_hardened_as_root_s(runtime_dir: Path) -> None:
    status = do(runtime_dir, "--", "grep", "-E", "^(CapEff|CapBnd|NoNewPrivs|Seccomp|NSpid)", "/proc/self/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_processes_are_limited_without_cgroups(runtime_dir: Path) -> None:
    done = do(runtime_dir, "--pids", "20", "--", "sh", "-c", "for i in $(seq 40); do sleep 5 & done; echo all")
    assert "all" not in done.stdout
    assert done.returncode != 0


def test_the_caller_s_own_limit_of_processes_may_be_lower(runtime_dir: Path) -> None:
    done = run(runtime_dir, "prlimit", "--nproc=700", CASEMATE, "do", "--", "sh", "-c", "grep processes /proc/self/limits")
    assert (done.returncode, done.stdout.split()[2:4]) == (0, ["700", "700"]), done.stderr


def test_a_limit_that_needs_cgroups_is_an_error(runtime_dir: Path) -> None:
    done = do(runtime_dir, "--memory", "64M", "--", "true")
    if done.returncode == 0:
        pytest.skip("this host delegates a memory controller to every user")
    assert done.returncode == 125
    assert "memory" in done.stderr


def test_the_sdk_runs(runtime_dir: Path) -> None:
    program = (
        "from casemate import Sandbox\n"
        "with Sandbox.create() as s:\n"
        "    s.files.write('a', 'text')\n"
        "    print(s.commands.run('cat a; id -u; mkdir -m 777 /usr/x').stdout)\n"
    )
    done = run(runtime_dir, sys.executable, "-c", program)
    assert done.stdout.split() == ["text0"], done.stderr


def test_another_user_s_directory_is_not_used(tmp_path: Path) -> None:
    path = Path(f"/tmp/casemate-{UID}")
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(tmp_path)
    try:
        done = subprocess.run(become(CASEMATE, "do", "--", "true"), env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, list(tmp_path.iterdir())) == (125, [])
        assert "not a directory of yours" in done.stderr
    finally:
        path.unlink()


def test_subordinate_ids_by_number(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("# comment\nnobody-there:1:1\n4242:500000:65536\n4242:900000:1\nroot:x:y\n")
    assert sub_range(str(file), UID) == (500000, 65536)
    assert sub_range(str(file), 99) is None
    assert sub_range(str(tmp_path / "missing"), UID) is None


def test_submounts_are_the_outermost_that_are_not_hidden() -> None:
    lines = ["/", "/proc", "/dev/pts", "/usr", "/usr/local", "/srv/data", "/run/user/0", "/da\\040ta", "/etc/hosts"]
    mountinfo = "\n".join(f"1 2 3:4 / {path} rw - ext4 /dev/x rw" for path in lines)
    assert submounts(mountinfo) == ["/da ta", "/etc/hosts", "/usr"]

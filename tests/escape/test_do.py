"""`casemate do`: a command over the host's own root sees nothing of value and may do nothing to the host."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import call, eventually

from bundle import CASEMATE

# name: (number on x86_64, arguments)
CALLS = {
    "unshare a user namespace": (272, 0x10000000),
    "unshare a mount namespace": (272, 0x20000),
    "clone a user namespace": (56, 0x10000000 | 17, 0, 0, 0, 0),
    "clone3": (435, "88", 88),
    "setns": (308, 0, 0),
    "mount": (165, "none", "/tmp", "tmpfs", 0, 0),
    "umount2": (166, "/proc", 2),
    "open_tree": (428, -100, "/", 1),
    "fsopen": (430, "tmpfs", 0),
    "move_mount": (429, -100, "/", -100, "/tmp", 0),
    "pivot_root": (155, "/", "/"),
    "bpf": (321, 0, "72", 72),
    "perf_event_open": (298, "128", 0, -1, -1, 0),
    "io_uring_setup": (425, 8, "120"),
    "userfaultfd": (323, 0),
    "keyctl": (250, 0, -3, 0),
    "add_key": (248, "user", "name", "value", 5, -3),
    "request_key": (249, "user", "name", 0, 0),
    "ptrace": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, ""),
    "open_by_handle_at": (304, -100, "64", 0),
    "personality": (135, 0x0040000),
    "swapon": (167, "/tmp/x", 0),
    "reboot": (169, 0, 0, 0, 0),
    "settimeofday": (164, 0, 0),
    "syslog": (103, 3, "64", 64),
    "socket of packets": (41, 17, 3, 0),
    "socket of vsock": (41, 40, 1, 0),
}
PROGRAM = """
import ctypes, json, sys
call = ctypes.CDLL(None, use_errno=True).syscall
results = {}
for name, (number, *args) in json.loads(sys.argv[1]).items():
    values = [ctypes.create_string_buffer(arg.encode(), 128) if isinstance(arg, str) else ctypes.c_long(arg) for arg in args]
    ctypes.set_errno(0)
    result = call(ctypes.c_long(number), *values)
    if result == 0 and name.startswith("clone"):
        import os; os._exit(0)
    results[name] = [result, ctypes.get_errno()]
print(json.dumps(results))
"""


def do(*command: str) -> subprocess.CompletedProcess[str]:
    return call([CASEMATE, "do", "--", *command])


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = json.loads(do("python3", "-c", PROGRAM, json.dumps(CALLS)).stdout)
    return found


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of x86_64")
@pytest.mark.parametrize("name", CALLS)
def test_call_is_refused(results: dict[str, tuple[int, int]], name: str) -> None:
    value, errno = results[name]
    assert value == -1
    assert errno in (1, 13, 38, 97, 22 if name == "clone3" else 1), os.strerror(errno)  # EPERM, EACCES, ENOSYS, EAFNOSUPPORT


@pytest.mark.parametrize("mode", ["000", "644"])
@pytest.mark.parametrize("place", ["/root", "/home", "/run", "/tmp", "/var/tmp", "/mnt", "/srv", "/var/lib"])
def test_files_in_private_places_are_not_seen(place: str, mode: str) -> None:
    canary = Path(place) / f"casemate-canary-{os.getpid()}"
    canary.write_text("secret")
    try:
        canary.chmod(int(mode, 8))
        done = do("sh", "-c", f"cat {canary}; cat /proc/1/root{canary}; cat /proc/self/cwd{canary}")
        assert "secret" not in done.stdout
        assert done.returncode != 0
    finally:
        canary.unlink()


def test_secrets_of_the_host_are_not_read() -> None:
    places = "/etc/shadow /etc/gshadow /root/.ssh/* /etc/ssh/*key /home/*/.ssh/* /etc/ssl/private/* /proc/kcore /proc/keys /dev/[vs]da /dev/mem"
    done = do("sh", "-c", f"for f in {places}; do head -c 4096 $f 2> /dev/null; done")
    assert done.stdout == ""


def test_sockets_of_the_host_are_not_reached(tmp_path: Path) -> None:
    sockets = "find / -xdev -type s 2>/dev/null; find /run /tmp /var -type s 2>/dev/null; cat /proc/net/unix | grep -c @"
    assert do("sh", "-c", sockets).stdout.split() == ["0"]


def test_environment_of_the_caller_is_not_passed() -> None:
    done = subprocess.run([CASEMATE, "do", "--", "env"], env={**os.environ, "AWS_SECRET": "canary"}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert "canary" not in done.stdout


def test_status_shows_no_privileges() -> None:
    status = dict(line.split(":", 1) for line in do("cat", "/proc/self/status").stdout.splitlines())
    assert {key: int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A command that runs, by its pid on the host."""
    argument = f"100{os.getpid()}"
    with subprocess.Popen([CASEMATE, "do", "--", "sleep", argument], stdout=subprocess.DEVNULL) as started:
        found: list[int] = []

        def find() -> bool:
            found[:] = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if command_of(pid) == ["sleep", argument]]
            return bool(found)

        eventually(find, "the command does not run")
        yield found[0]
        os.kill(found[0], 9)
        started.wait(10)


def command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:2]
    except OSError:
        return []


def test_user_on_the_host_is_nobody_else(sleeper: int) -> None:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{sleeper}/status").read_text().splitlines())
    ids = {int(word) for key in ("Uid", "Gid") for word in status[key].split()}
    assert min(ids) >= 100_000
    assert all(int(group) >= 100_000 for group in status["Groups"].split())


def test_all_namespaces_are_its_own(sleeper: int) -> None:
    for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{sleeper}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name


def test_signals_do_not_reach_the_host() -> None:
    done = do("sh", "-c", f"kill -0 {os.getpid()} || echo unseen; ls -d /proc/{os.getpid()} || echo unseen")
    assert done.stdout.split() == ["unseen", "unseen"]


def test_writes_do_not_reach_the_host() -> None:
    places = ["/etc", "/usr/bin", "/opt", "/", "/var/cache"]
    name = f"casemate-canary-{os.getpid()}"
    do("sh", "-c", "; ".join(f"echo x > {place}/{name}" for place in places))
    assert [place for place in places if (Path(place) / name).exists()] == []

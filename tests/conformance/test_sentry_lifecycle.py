"""The life cycle of a container whose kernel is the sentry, through the command line as engines use it; runc's behaviour is the oracle where it has one."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import Bundle, ignored_signals, leftovers

ANNOTATION = "dev.casemate.isolation"
DEADLINE_S = 10


@pytest.fixture
def sentry(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {ANNOTATION: "sentry"}
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def start(bundle: Bundle, script: str) -> None:
    bundle.create("sh", "-c", script)
    bundle.verb("start", bundle.id, check=True)


def host_processes(bundle: Bundle) -> list[int]:
    """Of the container's cgroup, without zombies that nobody reaped yet."""
    found = set()
    for base, _, files in os.walk("/sys/fs/cgroup"):
        if f"/{bundle.id}" in base and "cgroup.procs" in files:
            found.update(int(pid) for pid in (Path(base) / "cgroup.procs").read_text().split())
    return sorted(pid for pid in found if process_state(pid) not in ("Z", "X", ""))


def process_state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_gone(bundle: Bundle) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while host_processes(bundle):
        assert time.monotonic() < deadline, host_processes(bundle)
        time.sleep(0.01)


def wait_for(bundle: Bundle, status: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while bundle.status() != status:
        assert time.monotonic() < deadline, bundle.status()
        time.sleep(0.01)


def status_field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


def test_run_gives_output_and_exit_code(sentry: Bundle) -> None:
    done = sentry.shell("echo hello; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 7)


def test_what_the_starter_ignores_the_program_does_not(sentry: Bundle) -> None:
    sentry.start_ignoring_signals()
    done = sentry.shell("grep SigIgn /proc/self/status; exit 7")
    assert (ignored_signals(done.stdout), done.stderr, done.returncode) == (0, "", 7)


@pytest.mark.parametrize("program", ["nosuch", "/nosuch", "/etc/passwd"])
def test_program_that_cannot_run_fails_with_its_name(sentry: Bundle, program: str) -> None:
    done = sentry.run(program)
    assert done.returncode == 1
    assert f'"{program}"' in done.stderr
    assert "abort" not in done.stderr


def test_states_follow_each_other(sentry: Bundle) -> None:
    sentry.create("sleep", "100")
    assert sentry.status() == "created"
    sentry.verb("start", sentry.id, check=True)
    assert sentry.status() == "running"
    sentry.verb("kill", sentry.id, "KILL", check=True)
    wait_for(sentry, "stopped")
    sentry.verb("delete", sentry.id, check=True)
    assert sentry.verb("state", sentry.id).returncode != 0


def test_exec_gives_output_and_exit_code(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    done = sentry.verb("exec", sentry.id, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_exec_reads_standard_input(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    assert sentry.verb("exec", sentry.id, "cat", input="through").stdout == "through"


def test_exec_killed_by_a_signal_gives_128_plus_n(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    assert sentry.verb("exec", sentry.id, "sh", "-c", "kill -TERM $$").returncode == 143


def test_exec_of_no_program_fails_with_its_name(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    done = sentry.verb("exec", sentry.id, "nosuch")
    assert done.returncode == 255
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr


def test_exec_makes_its_working_directory(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    assert sentry.verb("exec", "--cwd", "/new/below", sentry.id, "sh", "-c", "pwd").stdout == "/new/below\n"


def test_exec_in_a_created_container_is_refused(sentry: Bundle) -> None:
    sentry.create("sleep", "100")
    assert sentry.verb("exec", sentry.id, "true").returncode == 255


def test_exec_does_not_end_the_container(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    sentry.verb("exec", sentry.id, "true", check=True)
    assert sentry.status() == "running"


def test_exec_runs_in_the_sandbox_and_in_no_namespace_of_the_sentry(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    first = sentry.state_document()["pid"]
    pid_file = sentry.directory / "pid"
    sentry.verb("exec", "--detach", "--pid-file", str(pid_file), sentry.id, "sleep", "50", check=True)
    stand_in = int(pid_file.read_text())
    assert os.readlink(f"/proc/{stand_in}/ns/mnt") != os.readlink(f"/proc/{first}/ns/mnt")
    assert os.readlink(f"/proc/{stand_in}/ns/pid") == os.readlink("/proc/self/ns/pid")
    assert status_field(stand_in, "CapPrm") == "0" * 16
    assert "sleep 50" in sentry.verb("ps", sentry.id).stdout


def test_signal_to_the_process_of_exec_reaches_the_program(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    marker, pid_file = sentry.rootfs / "tmp/ready", sentry.directory / "pid"
    command = [sentry.runtime, "--root", str(sentry.state), "exec", "--pid-file", str(pid_file), sentry.id]
    program = "trap 'exit 9' USR1; echo > /tmp/ready; while :; do sleep 0.01; done"
    with subprocess.Popen([*command, "sh", "-c", program]) as running:
        try:
            deadline = time.monotonic() + DEADLINE_S
            # As runc, exec writes the file once the program runs: the program may be quicker.
            while not (marker.exists() and pid_file.exists() and pid_file.read_text()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(int(pid_file.read_text()), signal.SIGUSR1)
            assert running.wait(DEADLINE_S) == 9
        finally:
            running.kill()


def test_program_of_exec_dies_with_its_process_on_the_host(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    pid_file = sentry.directory / "pid"
    sentry.verb("exec", "--detach", "--pid-file", str(pid_file), sentry.id, "sleep", "50", check=True)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while "sleep 50" in sentry.verb("ps", sentry.id, check=True).stdout:
        assert time.monotonic() < deadline
    assert sentry.status() == "running"


def test_many_execs_at_once(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    command = [sentry.runtime, "--root", str(sentry.state), "exec", sentry.id, "sh", "-c"]
    running = [subprocess.Popen([*command, f"exit {code}"]) for code in range(8)]
    assert [one.wait(DEADLINE_S) for one in running] == list(range(8))


def test_preserved_descriptors_reach_the_program(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    reader, writer = os.pipe()
    try:
        command = f'exec 3>&{writer} {sentry.runtime} --root {sentry.state} exec --preserve-fds 1 {sentry.id} sh -c "echo x >&3"'
        subprocess.run(["bash", "-c", command], pass_fds=(writer,), check=True, timeout=DEADLINE_S)
        assert os.read(reader, 8) == b"x\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_file_as_standard_input_has_its_position(sentry: Bundle) -> None:
    given = sentry.directory / "given"
    given.write_text("0123456789")
    sentry.config["process"]["args"] = ["sh", "-c", "dd bs=1 skip=2 count=3 status=none; wc -c; echo end"]
    sentry.write()
    with given.open() as stdin:
        done = subprocess.run(
            [sentry.runtime, "--root", str(sentry.state), "run", "--bundle", str(sentry.directory), sentry.id],
            stdin=stdin, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.stdout.split() == ["2345", "end"]


def test_no_process_of_the_sandbox_kills_its_first(sentry: Bundle) -> None:
    done = sentry.shell("(kill -KILL 1; kill -TERM 1; kill -STOP 1); echo lives")
    assert (done.stdout, done.returncode) == ("lives\n", 0)


def test_pause_and_resume(sentry: Bundle) -> None:
    start(sentry, "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done")
    count = sentry.rootfs / "tmp/count"
    sentry.verb("pause", sentry.id, check=True)
    assert sentry.status() == "paused"
    before = count.read_text() if count.exists() else ""
    time.sleep(0.1)  # what must not happen has no event to wait for
    assert (count.read_text() if count.exists() else "") == before
    sentry.verb("resume", sentry.id, check=True)
    deadline = time.monotonic() + DEADLINE_S
    while not count.exists() or count.read_text() == before:
        assert time.monotonic() < deadline


def test_pause_of_a_waiting_program(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    sentry.verb("pause", sentry.id, check=True)
    assert sentry.status() == "paused"
    assert sentry.verb("exec", sentry.id, "true").returncode == 255
    sentry.verb("resume", sentry.id, check=True)
    sentry.verb("exec", sentry.id, "true", check=True)


def test_delete_of_a_paused_container(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    sentry.verb("pause", sentry.id, check=True)
    sentry.verb("delete", "--force", sentry.id, check=True)
    wait_until_gone(sentry)


def test_ps_lists_the_sandbox(sentry: Bundle) -> None:
    start(sentry, "sleep 100 & wait")
    deadline = time.monotonic() + DEADLINE_S
    while "sleep 100" not in (lines := sentry.verb("ps", sentry.id, check=True).stdout).split("wait")[-1]:
        assert time.monotonic() < deadline, lines
    assert json.loads(sentry.verb("ps", "--format", "json", sentry.id, check=True).stdout) == [1, 2]


def test_kill_all_reaches_the_programs_only(sentry: Bundle) -> None:
    start(sentry, "trap 'exit 3' USR1; while :; do sleep 0.01; done")
    sentry.verb("kill", "--all", sentry.id, "WINCH", check=True)
    assert sentry.status() == "running"
    sentry.verb("kill", "--all", sentry.id, "KILL", check=True)
    wait_until_gone(sentry)


def test_stats_count_the_programs(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    stats = json.loads(sentry.verb("events", "--stats", sentry.id, check=True).stdout)
    assert stats["data"]["pids"]["current"] >= 3


def test_limits_are_the_programs_and_not_the_sentrys(sentry: Bundle) -> None:
    sentry.config["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 16, "hard": 32},
        {"type": "RLIMIT_AS", "soft": 1 << 30, "hard": 1 << 30},
    ]
    sentry.create("sh", "-c", "ulimit -n; ulimit -v; sleep 100")
    sentry.verb("start", sentry.id, check=True)
    done = sentry.verb("exec", sentry.id, "sh", "-c", "ulimit -n; ulimit -v")
    assert done.stdout == "16\n1048576\n"
    limits = Path(f"/proc/{sentry.state_document()['pid']}/limits").read_text()
    address_space = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert "unlimited" in address_space


def test_program_of_another_user_than_root(sentry: Bundle) -> None:
    sentry.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert sentry.shell("exit 4").returncode == 4


@pytest.mark.parametrize("victim", ["sentry", "zygote", "first"])
def test_nothing_is_left_when_a_part_is_killed(sentry: Bundle, victim: str) -> None:
    start(sentry, "while :; do (sleep 0.01; true | cat) & sleep 0.01; done")
    with subprocess.Popen([sentry.runtime, "--root", str(sentry.state), "exec", sentry.id, "sleep", "50"]) as execed:
        deadline = time.monotonic() + DEADLINE_S
        while "sleep 50" not in sentry.verb("ps", sentry.id, check=True).stdout:
            assert time.monotonic() < deadline
        own = int(sentry.state_document()["pid"])
        zygote = children(own)[0]
        os.kill({"sentry": own, "zygote": zygote, "first": children(zygote)[0]}[victim], signal.SIGKILL)
        assert execed.wait(DEADLINE_S) == 137
    wait_until_gone(sentry)
    wait_for(sentry, "stopped")


def test_sentry_is_jailed(sentry: Bundle) -> None:
    start(sentry, "sleep 100")
    own = int(sentry.state_document()["pid"])
    kept = sum(1 << number for number in (0, 1, 2, 3, 4, 10, 13, 27, 31))  # of files and sockets
    for thread in os.listdir(f"/proc/{own}/task"):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{own}/task/{thread}/status").read_text().splitlines())
        assert fields["Seccomp"].strip() == "2"
        assert fields["NoNewPrivs"].strip() == "1"
        assert int(fields["CapPrm"], 16) & ~kept == 0


def run_with_hooks(bundle: Bundle, *hooks: dict[str, object]) -> subprocess.CompletedProcess[str]:
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/sh", **hook} for hook in hooks]}
    return bundle.shell("cat /seen; echo $$")


def test_start_container_hooks_run_before_the_program_and_behind_the_sentry(sentry: Bundle) -> None:
    first = {"args": ["sh", "-c", 'read state; echo "$state" > /seen; uname -n -r >> /seen; echo $A $$ >> /seen'], "env": ["A=b", "PATH=/bin"]}
    second = {"args": ["sh", "-c", "echo second >> /seen"], "env": ["PATH=/bin"]}
    done = run_with_hooks(sentry, first, second)
    assert (done.stderr, done.returncode) == ("", 0)
    state, kernel, environment, order, own = done.stdout.splitlines()
    assert json.loads(state)["id"] == sentry.id
    assert "6.1.0" in kernel
    assert (environment, order, own) == ("b 2", "second", "1")


@pytest.mark.parametrize(
    ("script", "timeout", "message"), [("echo no >&2; exit 3", 10, "exit status: 3: no"), ("sleep 100", 1, "still ran after its timeout"), ("", 10, "")]
)
def test_a_failing_start_container_hook_ends_the_container(sentry: Bundle, script: str, timeout: int, message: str) -> None:
    hook: dict[str, object] = {"args": ["sh", "-c", script], "timeout": timeout} if script else {"path": "/none"}
    done = run_with_hooks(sentry, hook)
    assert done.returncode != 0
    assert "startContainer hook" in done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert host_processes(sentry) == []


def test_surface_of_both_walls(sentry: Bundle) -> None:
    """The published numbers. A further call needs a row with its reason, and this number raised."""
    report = json.loads(sentry.verb("surface", "--isolation", "sentry", "--json", check=True).stdout)
    jail = report["sentry"]
    assert report["counts"]["reachable"] <= 16
    assert jail["counts"]["reachable"] <= 60
    forbidden = {"execve", "execveat", "clone", "clone3", "fork", "ptrace", "mount", "setns", "unshare", "bpf", "seccomp", "open_by_handle_at"}
    assert forbidden.isdisjoint(jail["reachable"])
    # Every call that has an argument has a condition on one.
    assert set(jail["reachable"]) - set(jail["conditional"]) == {"rt_sigreturn", "exit_group"}


class Screen:
    """What a terminal shows, read on as far as something is expected."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.unread = b""

    def expect(self, wanted: bytes) -> bytes:
        while wanted not in self.unread:
            ready, _, _ = select.select([self.fd], [], [], DEADLINE_S)
            assert ready, (wanted, self.unread)
            self.unread += os.read(self.fd, 4096)
        seen, _, self.unread = self.unread.partition(wanted)
        return seen + wanted

    def rest(self) -> bytes:
        while True:
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                return self.unread
            if not piece:
                return self.unread
            self.unread += piece


def test_exec_has_a_terminal_of_its_own(sentry: Bundle) -> None:
    start(sentry, "exec sleep 100")
    pid, fd = pty.fork()
    if pid == 0:
        command = [sentry.runtime, "--root", str(sentry.state), "exec", "--tty", "--env", "PS1=P> ", sentry.id, "sh", "-i"]
        os.execv(command[0], command)
    screen = Screen(fd)
    termios.tcsetwinsize(fd, (33, 44))
    screen.expect(b"P> ")
    os.write(fd, b"stty size; test -t 0 && ls -l /proc/self/fd/0\r")
    assert b"33 44" in screen.expect(b"/dev/pts/0\r\n")
    screen.expect(b"P> ")
    os.write(fd, b"sh -c 'echo sta''rted; exec sleep 100'\r")
    screen.expect(b"started\r\n")
    os.write(fd, b"\x03")
    screen.expect(b"P> ")
    termios.tcsetwinsize(fd, (20, 30))
    os.write(fd, b"stty size\r")
    screen.expect(b"20 30")
    screen.expect(b"P> ")
    os.write(fd, b"seq=0; while [ $seq -lt 5000 ]; do echo line; seq=$((seq + 1)); done; exit 7\r")
    assert screen.rest().count(b"\nline\r") == 5000
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7

"""The sandbox's own terminal (`do --tty`), with this process in the place of the one who sits before it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASEMATE = ROOT / ".venv" / "bin" / "casemate"
SECONDS = 10


class Sandbox:
    """A program under the sentry, with a terminal to type at."""

    def __init__(self, *command: str, tty: bool = True) -> None:
        options = ["--isolation", "sentry", *(["--tty"] if tty else []), "--env", "PS1=P> ", "--env", "TERM=dumb"]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(CASEMATE, [str(CASEMATE), "do", *options, "--", *command])
        self.unread = b""
        self.resize(24, 80)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def expect(self, wanted: bytes) -> bytes:
        """Read until `wanted` was printed, and leave what follows for the next time."""
        until = time.monotonic() + SECONDS
        while wanted not in self.unread:
            ready, _, _ = select.select([self.fd], [], [], max(0, until - time.monotonic()))
            assert ready, (wanted, self.unread)
            self.unread += os.read(self.fd, 4096)
        seen, _, self.unread = self.unread.partition(wanted)
        return seen + wanted

    def sentry(self) -> int:
        """The process that the host sees as the sandbox's first."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0])

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        while True:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def shell() -> Sandbox:
    """Return an interactive bash that has prompted."""
    sandbox = Sandbox("bash", "--norc", "--noediting", "-i")
    sandbox.expect(b"P> ")
    return sandbox


def test_program_has_a_terminal(shell: Sandbox) -> None:
    shell.type(b"tty; test -t 0 -a -t 1 -a -t 2 && echo ye''s; stat -c %t:%T /dev/console /dev/pts/0\r")
    assert b"/dev/pts/0\r\nyes\r\n88:0\r\n88:0" in shell.expect(b"88:0\r\n88:0")
    shell.type(b"exit 7\r")
    assert shell.end() == 7


def test_typed_line_is_edited(shell: Sandbox) -> None:
    shell.type(b"echo wronk\x7fg wo\x17ri\x7fight\r")
    shell.expect(b"\r\nwrong right\r\n")
    shell.type(b"dropped\x15exit 3\r")
    assert shell.end() == 3


def test_readline_edits_in_raw_mode() -> None:
    shell = Sandbox("bash", "--norc", "-i")
    shell.expect(b"P> ")
    shell.type(b"cho right\x01e\x05 here\r")
    shell.expect(b"right here\r\n")
    # Typed before readline is raw again, it would end a line.
    shell.expect(b"P> ")
    shell.type(b"\x04")
    assert shell.end() == 0


def test_interrupt_reaches_the_foreground(shell: Sandbox) -> None:
    shell.type(b"cat\r")
    shell.type(b"word\r")
    shell.expect(b"word\r\nword\r\n")
    shell.type(b"\x03")
    shell.expect(b"^C\r\nP> ")
    shell.type(b"echo rc=$?\r")
    shell.expect(b"rc=130")


def test_jobs_stop_and_go_on(shell: Sandbox) -> None:
    shell.type(b"cat\r")
    shell.type(b"one\r")
    shell.expect(b"one\r\none\r\n")
    shell.type(b"\x1a")
    shell.expect(b"Stopped")
    shell.expect(b"P> ")
    shell.type(b"bg\r")
    shell.expect(b"cat &\r\n")
    shell.type(b"jobs -l\r")
    shell.expect(b"Stopped (tty input)")
    shell.type(b"fg\r")
    shell.expect(b"fg\r\n")
    shell.expect(b"cat\r\n")
    shell.type(b"two\r")
    shell.expect(b"two\r\ntwo\r\n")
    shell.type(b"\x04")
    shell.expect(b"P> ")
    shell.type(b"sleep 100 & kill %1; wait %1; echo rc=$?\r")
    shell.expect(b"rc=143")


def test_size_changes(shell: Sandbox) -> None:
    shell.type(b"stty size; trap 'stty size' WINCH; echo trapp''ed\r")
    assert b"24 80" in shell.expect(b"trapped")
    shell.expect(b"P> ")
    shell.resize(33, 44)
    shell.type(b"true\r")
    shell.expect(b"33 44")


def test_end_of_input_ends_the_program() -> None:
    sandbox = Sandbox("cat")
    sandbox.type(b"line\r")
    sandbox.expect(b"line\r\nline\r\n")
    sandbox.type(b"\x04")
    assert sandbox.end() == 0


def test_signal_from_outside_reaches_the_first_process() -> None:
    program = "trap 'echo term; exit 9' TERM; echo up; while :; do read -t 0.1 x; done"
    sandbox = Sandbox("bash", "-c", program)
    sandbox.expect(b"up")
    os.kill(sandbox.sentry(), signal.SIGTERM)
    sandbox.expect(b"term")
    assert sandbox.end() == 9


def test_signal_without_a_handler_is_dropped() -> None:
    sandbox = Sandbox("bash", "-c", "echo up; read line; echo got $line")
    sandbox.expect(b"up")
    os.kill(sandbox.sentry(), signal.SIGTERM)
    sandbox.type(b"on\r")
    sandbox.expect(b"got on")
    assert sandbox.end() == 0


def test_program_under_a_further_terminal() -> None:
    program = "import os, pty; status = pty.spawn(['bash', '--norc', '-i']); print('ended', os.waitstatus_to_exitcode(status))"
    sandbox = Sandbox("/usr/bin/python3", "-c", program)
    sandbox.expect(b"P> ")
    sandbox.type(b"tty\r")
    sandbox.expect(b"/dev/pts/1")
    sandbox.expect(b"P> ")
    sandbox.type(b"bash -c 'echo sta''rted; exec sleep 100'\r")
    sandbox.expect(b"started\r\n")
    sandbox.type(b"\x03")
    sandbox.expect(b"P> ")
    sandbox.type(b"exit 4\r")
    sandbox.expect(b"ended 4")


def test_hang_up_ends_the_shell_and_its_job(shell: Sandbox) -> None:
    shell.type(b"sleep 100\r")
    shell.expect(b"sleep 100\r\n")
    children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")
    assert children.read_text()
    os.close(shell.fd)
    until = time.monotonic() + SECONDS
    while os.waitpid(shell.pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_given_terminal_can_be_asked_and_not_changed() -> None:
    program = (
        "import os, termios, sys\n"
        "print(os.isatty(0), os.get_terminal_size())\n"
        "try: termios.tcsetattr(0, termios.TCSANOW, termios.tcgetattr(0))\n"
        "except termios.error as error: print(error.args[1])\n"
        "try: os.tcgetpgrp(0)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    sandbox = Sandbox("sh", "-c", 'sleep 0.5; exec /usr/bin/python3 -c "$0"', program, tty=False)
    seen = sandbox.expect(b"ioctl for device")
    assert b"True os.terminal_size(columns=80, lines=24)\r\nInput/output error\r\n" in seen
    assert sandbox.end() == 0


def test_vi_edits_and_saves_a_file(shell: Sandbox) -> None:
    shell.type(b"export TERM=xterm; cd /tmp; printf 'one\\ntwo\\nthree\\n' > f; busybox vi f\r")
    shell.expect(b"three")
    # Down, to the end of the line, append; delete the last line; a search; write and quit.
    shell.type(b"jA and more\x1b")
    shell.expect(b"Modified")
    shell.type(b"jdd/one\rx:wq\r")
    shell.expect(b"P> ")
    shell.type(b"cat f; echo do''ne\r")
    assert b"ne\r\ntwo and more\r\ndone" in shell.expect(b"\r\ndone")
    # The terminal is as before: lines are edited by it, and what is typed is shown, after the prompt if one waits for that.
    shell.expect(b"P> ")
    shell.type(b"stty -a | grep -o ' icanon'; exit\r")
    shell.expect(b"\r\n icanon")
    assert shell.end() == 0


def test_top_shows_the_sandbox_and_quits(shell: Sandbox) -> None:
    shell.type(b"export TERM=xterm; sleep 1000 & busybox top -d 100\r")
    shell.expect(b"Mem: ")
    shell.expect(b"sleep 1000")
    shell.type(b"q")
    shell.expect(b"P> ")
    shell.type(b"kill %1; exit 3\r")
    assert shell.end() == 3


def test_everything_printed_arrives() -> None:
    sandbox = Sandbox("seq", "30000")
    seen = sandbox.expect(b"\n30000\r\n")
    assert seen.count(b"\r\n") == 30000


def test_the_last_lines_of_exec_arrive_whoever_is_slow(tmp_path: Path) -> None:
    """The program has ended, its reader has not read, and the sentry has not printed all: the end is told after the last line."""
    name = f"t{os.getpid()}-{time.monotonic_ns()}"
    casemate = str(CASEMATE)
    subprocess.run([casemate, "do", "--isolation", "sentry", "--detach", "--name", name, "--bind", f"{tmp_path}:/t", "--", "sleep", "100"], check=True)
    try:
        sentry = json.loads(subprocess.run([casemate, "state", name], capture_output=True, check=True).stdout)["pid"]
        tmp_path.chmod(0o777)
        pid, fd = pty.fork()
        if pid == 0:
            # Counts what is taken of its output, in a file: as long as that grows, the reader's side has room.
            script = "i=0; while i=$((i+1)); do printf '%0999d\\n' $i; echo $i > /t/printed; test ! -e /t/stop || break; done; echo LAST $i; : > /t/ended"
            os.execv(casemate, [casemate, "exec", "--tty", name, "sh", "-c", script])
        _until_it_stays(tmp_path / "printed")
        # The writer waits for room. Once there is some, it ends, with the sentry's own buffer full.
        (tmp_path / "stop").touch()
        seen = os.read(fd, 1)
        while not (tmp_path / "ended").exists():
            seen += os.read(fd, 1024)
            select.select([], [], [], 0.03)  # no more than it needs, or all would be printed
        while len(json.loads(subprocess.run([casemate, "ps", "--json", name], capture_output=True, check=True).stdout)) > 1:
            pass
        os.kill(sentry, signal.SIGSTOP)
        while select.select([fd], [], [], 0.3)[0] and (piece := _read(fd)):
            seen += piece
        os.kill(sentry, signal.SIGCONT)
        while piece := _read(fd):
            seen += piece
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert seen.endswith(f"LAST {int((tmp_path / 'printed').read_text())}\r\n".encode())
    finally:
        subprocess.run([casemate, "delete", "--force", name], check=True)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""


def _until_it_stays(file: Path) -> None:
    """Wait until a file's text does not change for a while."""
    before, since = "", time.monotonic()
    until = since + SECONDS
    while time.monotonic() - since < 0.5 or not before:
        assert time.monotonic() < until
        now = file.read_text() if file.exists() else ""
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.02)

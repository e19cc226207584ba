"""Python's own terminal modules: pty, tty, termios; a shell with job control under pty.spawn's like."""

import os
import pty
import select
import sys
import termios
import tty


def read_until(fd, wanted):
    seen = b""
    while wanted not in seen:
        if not select.select([fd], [], [], 5)[0]:
            return seen + b" (time out)"
        try:
            piece = os.read(fd, 1000)
        except OSError as error:
            return seen + b" (" + os.strerror(error.errno).encode() + b")"
        if not piece:
            return seen + b" (end)"
        seen += piece
    return seen


def shell():
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["PS1"] = "P> "
        os.environ["TERM"] = "dumb"
        os.execv("/bin/sh", ["sh", "-i"])
    print(read_until(fd, b"P> "))
    for typed, wanted in [
        (b"test -t 0 && echo y''es\n", b"yes\r\nP> "),
        (b"stty -echo; echo do''ne\n", b"done\r\nP> "),
        (b"sleep 10; echo rc=$?\n", b""),
        (b"\x03", b"P> "),
        (b"cat\n", b""),
        (b"word\n", b"word"),
        (b"\x04", b"P> "),
        (b"exit 5\n", b"never"),
    ]:
        if typed == b"\x03":
            select.select([], [], [], 0.3)
        os.write(fd, typed)
        print(typed, read_until(fd, wanted) if wanted else b"")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def modes():
    master, slave = os.openpty()
    print(os.isatty(master), os.isatty(slave), os.ttyname(slave).startswith("/dev/pts/"))
    tty.setraw(slave)
    os.write(master, b"\x03\n\r")
    select.select([slave], [], [], 1)
    print(os.read(slave, 10))
    os.write(slave, b"a\nb")
    print(os.read(master, 10))
    print(os.get_terminal_size(slave))
    termios.tcsetwinsize(slave, (12, 34))
    print(os.get_terminal_size(master))


modes()
shell()
sys.stdout.flush()
status = pty.spawn(["/bin/echo", "spawned"])
print(status)

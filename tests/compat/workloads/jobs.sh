# Job control in a script and on a terminal.
set -m
sleep 100 & sleep 200 & jobs | sed 's/ *sleep/ sleep/'; kill %1; wait %1 2>/dev/null; echo $?; kill -STOP %2; sleep 0.1; jobs | sed 's/ *sleep/ sleep/'; kill -CONT %2; kill -TERM %2; wait %2 2>/dev/null; echo $?
set +m
python3 - <<'END'
import os, pty, re, select, time
pid, fd = pty.fork()
if pid == 0:
    os.environ |= {"PS1": "READY ", "TERM": "dumb"}
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
text = b""
def until(pattern):
    global text
    limit = time.monotonic() + 30
    while not (found := re.search(pattern, text)):
        assert time.monotonic() < limit, text
        if select.select([fd], [], [], 1)[0]: text += os.read(fd, 65536)
    text = text[found.end():]
    return found
def runs():  # Only then what is typed is echoed, and signals are the program's: until then the line is read by the shell's own editor.
    limit = time.monotonic() + 30
    while os.tcgetpgrp(fd) == pid:
        assert time.monotonic() < limit
        time.sleep(0.01)
until(b"READY "); os.write(fd, b"tty >/dev/null && echo is''-tty; stty size\n"); until(b"is-tty\r\n"); print(until(rb"(\d+ \d+)\r\n")[1])
until(b"READY "); os.write(fd, b"cat\n"); until(b"cat\r\n"); runs(); os.write(fd, b"echo\n"); until(b"echo\r\necho\r\n"); os.write(fd, b"\x1a"); print(until(rb"\[1\]\+ *Stopped")[0])
until(b"READY "); os.write(fd, b"bg; jobs\n"); until(rb"\[1\]\+ cat &"); until(b"READY "); os.write(fd, b"fg\n"); until(b"cat\r\n"); os.write(fd, b"more\n"); until(b"more\r\nmore\r\n"); os.write(fd, b"\x04")
until(b"READY "); os.write(fd, b"sleep 100\n"); until(b"sleep 100\r\n"); runs(); time.sleep(0.3); os.write(fd, b"\x03"); until(b"READY "); os.write(fd, b"echo st''atus $?\n"); print(until(rb"status (\d+)")[1])
until(b"READY "); os.write(fd, b"(trap 'echo hung''up; exit 5' HUP; kill -STOP $BASHPID; :) & \n"); until(b"READY "); os.write(fd, b"sleep 0.2; exit; exit\n")
until(b"exit\r\n"); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
# Pipelines in groups of their own, and what a stop of one of them tells.
bash -m -c 'sleep 5 | (kill -STOP $BASHPID; echo went on) & sleep 0.3; kill -CONT %1; wait; echo waited' | sort
bash -c 'trap "echo int" INT; kill -INT $$; trap - INT; (trap "" TERM; kill -TERM $BASHPID; echo ignored); exec bash -c "ulimit -c 0; kill -SEGV \$\$"'; echo $?
timeout 0.2 sleep 10; echo $?; timeout -k 0.1 2 bash -c 'trap "" TERM; sleep 10 & wait; sleep 10'; echo $?; setsid sh -c 'ps -o pid=,sid= -p $$ | { read a b; [ $a = $b ] && echo leads; }'; nohup sh -c 'kill -HUP $$; echo survives' 2>/dev/null

"""`make demo`: runs a Python script that it did not write, over real files, in a sandbox; shows output, exit code, what could be seen, and times."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from pathlib import Path

CASEMATE = str(Path(sys.executable).with_name("casemate"))
LIBRARY = Path(sysconfig.get_path("stdlib"))
SEEN = """
import os, socket
def can(what, action):
    try:
        result = action()
        print(f"  {what:<44} yes{': ' + str(result) if result is not None else ''}")
    except OSError as error:
        print(f"  {what:<44} no: {error.strerror or error}")
can("read /etc/hostname", lambda: open("/etc/hostname").read().strip())
can("read /etc/shadow (0 bytes: it is masked)", lambda: f"{len(open('/etc/shadow').read())} bytes")
can("list /root", lambda: f"{len(os.listdir('/root'))} entries")
can("list /run (sockets of services)", lambda: f"{len(os.listdir('/run'))} entries")
can("see other processes", lambda: f"{sum(name.isdigit() for name in os.listdir('/proc'))} in /proc")
can("write to its own layer (/usr/local/x)", lambda: open("/usr/local/x", "w").close())
can("change a file of the host (/etc/hostname)", lambda: open("/etc/hostname", "w").close())
can("connect to 192.0.2.1:80", lambda: socket.create_connection(("192.0.2.1", 80), 2))
can("become root of a new user namespace", lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else ctypes_unshare())
can("open the kernel's memory (/proc/kcore)", lambda: f"{len(open('/proc/kcore', 'rb').read(16))} bytes")
"""
SEEN = SEEN.replace(
    'can("read /etc/hostname"',
    "def ctypes_unshare():\n"
    "    import ctypes\n"
    "    libc = ctypes.CDLL(None, use_errno=True)\n"
    "    if libc.unshare(0x10000000):\n"
    "        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    'can("read /etc/hostname"',
    1,
)


def sandboxed(*command: str) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.perf_counter()
    done = subprocess.run([CASEMATE, "do", "--memory", "512M", "--diff", "--", *command], capture_output=True, text=True, check=False)
    return done, time.perf_counter() - started


def main() -> int:
    script, target = LIBRARY / "tabnanny.py", LIBRARY / "json"
    python = sys.base_prefix + "/bin/python3"
    print(f"1. {script} over {target}, in a sandbox")
    done, seconds = sandboxed(python, str(script), "-v", str(target))
    print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="")
    print(f"  exit code {done.returncode}, {seconds * 1000:.0f} ms")
    print(done.stderr, end="")

    print("2. what it could and could not do")
    seen, _ = sandboxed(python, "-c", SEEN)
    print(seen.stdout, end="")
    print(f"  changed, in its own layer only: {seen.stderr.strip() or 'nothing'}")

    print("3. exit codes")
    # As the first process of a sandbox a shell cannot kill itself (pid_namespaces(7)); a child of it can.
    for command in (["sh", "-c", "exit 42"], ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], ["no-such-program"]):
        code = sandboxed(*command)[0].returncode
        print(f"  {' '.join(command):<36} {code}")

    print("4. times of /bin/true: directly, and in a sandbox (best of 10)")
    bare = min(_timed(["/bin/true"]) for _ in range(10))
    walled = min(sandboxed("/bin/true")[1] for _ in range(10))
    print(f"  {bare * 1000:.1f} ms, {walled * 1000:.1f} ms")
    return 0 if done.returncode == 0 and "yes" in seen.stdout else 1


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())

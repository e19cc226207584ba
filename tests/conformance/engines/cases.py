"""The cases that every engine runs on every runtime. One counts for casemate only if it passes on runc."""

from __future__ import annotations

import http.server
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .case import CGROUPS, Box, Options, expect, until
from .command import COLUMNS, ROWS, Failed

FOREVER = "while :; do sleep 0.1; done"
READY = "trap 'echo bye; exit 5' TERM; echo ready; " + FOREVER
SERVE = "echo answer > /tmp/said; exec httpd -f -p 80 -h /tmp"
TERMINAL = Options(tty=True)
HUNGRY = ("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")


@dataclass(frozen=True)
class Case:
    name: str
    engines: tuple[str, ...]
    check: Callable[[Box], None]


CASES: list[Case] = []


def case(name: str, *engines: str) -> Callable[[Callable[[Box], None]], Callable[[Box], None]]:
    """Adds the function to the table; `engines` are those that have the verb, all if none is named."""

    def add(check: Callable[[Box], None]) -> Callable[[Box], None]:
        CASES.append(Case(name, engines or ("podman", "containerd", "docker"), check))
        return check

    return add


@case("echo")
def echo(box: Box) -> None:
    box.run("echo", "hello").expect(0, "hello\n")


@case("standard error")
def standard_error(box: Box) -> None:
    done = box.shell("echo out; echo err >&2")
    expect((done.out, done.err.strip()), ("out\n", "err"), "streams")


@case("standard input")
def standard_input(box: Box) -> None:
    text = "line\n" * 50_000
    box.run("wc", "-c", options=Options(text=text)).expect(0, f"{len(text)}\n")


@case("exit code 0")
def exit_code_0(box: Box) -> None:
    box.run("true").expect(0, "")


@case("exit code 3")
def exit_code_3(box: Box) -> None:
    box.shell("exit 3").expect(3, "")


@case("command not found")
def not_found(box: Box) -> None:
    box.run("no-such-command").expect(box.engine.code_not_found, "")


@case("command not executable")
def not_executable(box: Box) -> None:
    box.run("/etc/not-executable").expect(box.engine.code_not_executable, "")


@case("tty")
def tty(box: Box) -> None:
    done = box.run("tty", options=TERMINAL).expect()
    if not done.out.startswith("/dev/pts/") or "\r\n" not in done.out:
        raise Failed(f"tty printed {done.out!r}")


@case("tty: size")
def tty_size(box: Box) -> None:
    # engines tell the size after the start
    size = f"{ROWS} {COLUMNS}"
    script = f'for i in $(seq 50); do [ "$(stty size)" = "{size}" ] && exit 0; sleep 0.1; done; stty size; exit 1'
    box.shell(script, TERMINAL).expect()


@case("tty: exit code")
def tty_exit_code(box: Box) -> None:
    box.shell("exit 9", TERMINAL).expect(9)


@case("exec")
def exec_output(box: Box) -> None:
    name = box.detach(FOREVER)
    box.exec(name, "echo inside; hostname >/dev/null").expect(0, "inside\n")


@case("exec: exit code")
def exec_exit_code(box: Box) -> None:
    name = box.detach(FOREVER)
    box.exec(name, "exit 7").expect(7, "")
    box.exec(name, "kill -KILL $$").expect(137)


@case("exec: command not found")
def exec_not_found(box: Box) -> None:
    name = box.detach(FOREVER)
    done = box.engine.exec(name, ["no-such-command"], Options())
    # docker 20.10 says 126 where podman says 127
    if done.code not in (1, 126, 127):
        raise Failed(f"exit code {done.code}")
    expect(box.engine.status(name), "running", "status after it")


@case("exec: tty")
def exec_tty(box: Box) -> None:
    name = box.detach(FOREVER)
    done = box.exec(name, "tty; exit 4", TERMINAL).expect(4)
    if not done.out.startswith("/dev/pts/") or "\r\n" not in done.out:
        raise Failed(f"tty printed {done.out!r}")


@case("exec: user and directory")
def exec_user(box: Box) -> None:
    name = box.detach(FOREVER)
    box.exec(name, "id -u; id -g; pwd", Options(user="1000:1234", directory="/tmp")).expect(0, "1000\n1234\n/tmp\n")


@case("exec: standard input")
def exec_input(box: Box) -> None:
    name = box.detach(FOREVER)
    box.exec(name, "tr a-z A-Z", Options(text="abc\n")).expect(0, "ABC\n")


@case("detached, log and kill")
def kill(box: Box) -> None:
    name = box.detach(READY)
    until(lambda: "ready" in box.engine.log(name), "the log says ready")
    expect(box.engine.status(name), "running", "status")
    box.engine.kill(name, "KILL").expect()
    expect(box.engine.wait(name), 137, "exit code")


@case("kill with a trapped signal")
def kill_trapped(box: Box) -> None:
    name = box.detach("trap 'exit 6' USR1; echo ready; " + FOREVER)
    until(lambda: "ready" in box.engine.log(name), "the log says ready")
    box.engine.kill(name, "USR1").expect()
    expect(box.engine.wait(name), 6, "exit code")


@case("stop: trapped")
def stop_trapped(box: Box) -> None:
    name = box.detach(READY)
    until(lambda: "ready" in box.engine.log(name), "the log says ready")
    box.engine.stop_container(name, 20).expect()
    expect("bye" in box.engine.log(name), True, "last words logged")
    expect(box.engine.wait(name), 5, "exit code")


@case("stop: time is over")
def stop_by_force(box: Box) -> None:
    name = box.detach("trap '' TERM; echo ready; " + FOREVER)
    until(lambda: "ready" in box.engine.log(name), "the log says ready")
    begin = time.monotonic()
    box.engine.stop_container(name, 1).expect()
    if time.monotonic() - begin < 0.9:
        raise Failed("killed before its time was over")
    expect(box.engine.wait(name), 137, "exit code")


@case("restart", "podman", "docker")
def restart(box: Box) -> None:
    name = box.detach("echo started; exec sleep 100")
    until(lambda: box.engine.log(name).count("started") == 1, "first start logged")
    box.engine.command("restart", "--time", "0", name).expect()
    until(lambda: box.engine.log(name).count("started") == 2, "second start logged")
    expect(box.engine.status(name), "running", "status")


@case("remove while it runs", "podman", "docker")
def remove(box: Box) -> None:
    name = box.detach(FOREVER)
    pid = box.engine.pid(name)
    box.engine.command("rm", "--force", name).expect()
    until(lambda: not Path(f"/proc/{pid}").exists(), "process gone")
    box.names.remove(name)


@case("pause and unpause")
def pause(box: Box) -> None:
    name = box.detach("while :; do echo x >>/volume/out; sleep 0.02; done", Options(volume=box.scratch))
    out = box.scratch / "out"
    until(out.exists, "it writes")
    box.engine.pause(name).expect()
    expect(box.engine.status(name), "paused", "status")
    size = out.stat().st_size
    time.sleep(0.3)
    expect(out.stat().st_size, size, "size while paused")
    box.engine.resume(name).expect()
    until(lambda: out.stat().st_size > size, "it writes again")
    expect(box.engine.status(name), "running", "status")


@case("list of processes")
def processes(box: Box) -> None:
    name = box.detach("sleep 100 & sleep 100 & echo ready; wait")
    until(lambda: "ready" in box.engine.log(name), "the log says ready")
    expect(box.engine.processes(name), 3, "processes")


@case("stats")
def stats(box: Box) -> None:
    name = box.detach(FOREVER)
    shown = box.engine.memory_shown(name)
    if not shown or shown.startswith(("0 ", "0B", "--")):
        raise Failed(f"memory in use: {shown!r}")


@case("memory limit: value")
def memory_value(box: Box) -> None:
    name = box.detach(FOREVER, Options(memory_mib=32))
    expect(memory_limit(box.engine.pid(name)), 32 << 20, "limit in the cgroup")


@case("out of memory: exit code")
def out_of_memory(box: Box) -> None:
    box.run(*HUNGRY, options=Options(memory_mib=32)).expect(137, "")


@case("out of memory: told to the engine")
def out_of_memory_told(box: Box) -> None:
    # later than the engine begins to listen
    name = box.detach("sleep 0.3; exec " + " ".join(HUNGRY), Options(memory_mib=32))
    until(lambda: box.engine.status(name) == "exited", "it ended")
    until(lambda: box.engine.out_of_memory(name), "the engine knows why", 5)
    expect(box.engine.wait(name), 137, "exit code")


@case("memory limit: update", "podman", "docker")
def update_memory(box: Box) -> None:
    name = box.detach(FOREVER, Options(memory_mib=32))
    box.engine.command("update", "--memory", "64m", "--memory-swap", "128m", name).expect()
    expect(memory_limit(box.engine.pid(name)), 64 << 20, "limit in the cgroup")
    expect(box.engine.status(name), "running", "status")


@case("process limit")
def process_limit(box: Box) -> None:
    done = box.shell("for i in $(seq 20); do sleep 2 & done; echo all", Options(pids=8))
    if "can't fork" not in done.err or "all" in done.out:
        raise Failed(f"20 processes with a limit of 8: {done.out!r} {done.err[-80:]!r}")


@case("volume, writable")
def volume(box: Box) -> None:
    (box.scratch / "in").write_text("from the host\n")
    box.shell("cat /volume/in; echo from inside >/volume/out", Options(volume=box.scratch)).expect(0, "from the host\n")
    expect((box.scratch / "out").read_text(), "from inside\n", "file on the host")


@case("volume, read-only")
def volume_read_only(box: Box) -> None:
    (box.scratch / "in").write_text("from the host\n")
    done = box.shell("cat /volume/in; touch /volume/out", Options(volume=box.scratch, volume_read_only=True)).expect(1, "from the host\n")
    expect("Read-only file system" in done.err, True, "refused as read-only")


@case("user")
def user(box: Box) -> None:
    box.shell("id -u; id -g; touch /etc/x 2>/dev/null || echo refused", Options(user="1000:1234")).expect(0, "1000\n1234\nrefused\n")


@case("read-only root")
def read_only_root(box: Box) -> None:
    done = box.shell("touch /x", Options(read_only=True)).expect(1)
    expect("Read-only file system" in done.err, True, "refused as read-only")


@case("host network")
def host_network(box: Box) -> None:
    here = interfaces(Path("/proc/net/dev").read_text())
    expect(interfaces(box.run("cat", "/proc/net/dev", options=Options(host_network=True)).expect().out), here, "interfaces")


@case("bridge network", "podman")
def bridge_network(box: Box) -> None:
    """Addresses and routes are of the engine's making; the bridge's own are the host's, where somebody answers. IPv6 waits until nobody else has them."""
    script = r"""
        ip -o addr show eth0 | grep -c 'scope global'
        v4=$(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p') v6=$(ip -6 route | sed -n 's/^default via \([^ ]*\).*/\1/p')
        for gateway in "$v4" "[$v6]"; do until wget -q -O - "http://$gateway:PORT/"; do sleep 0.1; done; done
    """
    with Answering() as port:
        script = script.replace("PORT", str(port))
        box.shell(script, Options(network=str(getattr(box.engine, "network", "")))).expect(0, "2\nanswer\nanswer\n")


@case("published port", "podman")
def published_port(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box.detach(SERVE, Options(network=str(getattr(box.engine, "network", "")), extra=("--publish", f"{port}:80")))
    until(lambda: answer_of(port) == "answer\n", "the host's port is answered")


@case("names on a network", "podman")
def names_on_a_network(box: Box) -> None:
    """By the engine's own server of names, which each container has in its resolv.conf."""
    on_network = Options(network=str(getattr(box.engine, "network_with_names", "")))
    name = box.detach(SERVE, on_network)
    box.shell(f"for i in $(seq 100); do wget -q -O - http://{name}/said && exit; sleep 0.1; done; exit 1", on_network).expect(0, "answer\n")


@case("privileged")
def privileged(box: Box) -> None:
    box.shell("mount -t tmpfs none /tmp && echo mounted", Options(privileged=True)).expect(0, "mounted\n")


@case("no capabilities", "podman", "docker")
def no_capabilities(box: Box) -> None:
    done = box.run("cat", "/proc/self/status", options=Options(extra=("--cap-drop", "all"))).expect()
    expect("CapEff:\t0000000000000000" in done.out, True, "no effective capability")


@case("tmpfs, hostname, variable and sysctl", "podman", "docker")
def settings(box: Box) -> None:
    extra = ("--tmpfs", "/t:size=1m", "--hostname", "box", "--env", "A=b c", "--sysctl", "kernel.shm_rmid_forced=1")
    script = 'hostname; echo "$A"; grep -c " /t tmpfs" /proc/mounts; cat /proc/sys/kernel/shm_rmid_forced'
    box.shell(script, Options(extra=extra)).expect(0, "box\nb c\n1\n1\n")


@case("20 at once")
def twenty(box: Box) -> None:
    with ThreadPoolExecutor(20) as threads:
        results = list(threads.map(lambda number: box.run("echo", str(number)), range(20)))
    for number, done in enumerate(results):
        done.expect(0, f"{number}\n")


@case("10 execs at once")
def ten_execs(box: Box) -> None:
    name = box.detach(FOREVER)
    with ThreadPoolExecutor(10) as threads:
        results = list(threads.map(lambda number: box.exec(name, f"echo {number}"), range(10)))
    for number, done in enumerate(results):
        done.expect(0, f"{number}\n")


class Answering:
    """Somebody at each of the host's addresses who has one answer; the port."""

    def __enter__(self) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"answer\n")

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6

        self.server = Server(("::", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return int(self.server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def answer_of(port: int) -> str:
    """Of who serves SERVE's file behind the host's port; nothing of nobody."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/said", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def interfaces(table: str) -> list[str]:
    return sorted(line.split(":")[0].strip() for line in table.splitlines() if ":" in line)


def memory_limit(pid: int) -> int:
    """The memory limit of the process's cgroup, in bytes, as the kernel has it."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return int((CGROUPS / "memory" / path.lstrip("/") / "memory.limit_in_bytes").read_text())
    return int((CGROUPS / path.lstrip("/") / "memory.max").read_text())

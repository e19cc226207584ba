"""Docker, and the part of its command line that podman has too."""

from __future__ import annotations

import abc
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .case import IMAGE, PLAIN, Engine, Options
from .command import Done, call, call_in_terminal
from .image import PATH


class DockerCommands(Engine):
    """The verbs that docker and podman share."""

    code_not_found = 127
    code_not_executable = 126
    client: list[str]
    removal: Sequence[str] = ("rm", "--force")

    def command(self, *words: str, options: Options = PLAIN) -> Done:
        argv = [*self.client, *words]
        if options.tty:
            return call_in_terminal(argv, directory=self.directory, environment=self.environment)
        return call(argv, directory=self.directory, environment=self.environment, text=options.text)

    def flags(self, runtime: str, options: Options) -> list[str]:
        flags = ["--network", options.network or ("host" if options.host_network else "none"), *input_flags(options)]
        if options.memory_mib is not None:
            flags += ["--memory", f"{options.memory_mib}m"]
        if options.pids is not None:
            flags += ["--pids-limit", str(options.pids)]
        if options.volume is not None:
            flags += ["--volume", f"{options.volume}:/volume:{'ro' if options.volume_read_only else 'rw'}"]
        flags += ["--read-only"] if options.read_only else []
        flags += ["--privileged"] if options.privileged else []
        return [*flags, *options.extra]

    @abc.abstractmethod
    def run_with(self, runtime: str) -> list[str]:
        """The words that begin a run with that runtime."""

    def run(self, runtime: str, command: Sequence[str], options: Options) -> Done:
        return self.command(*self.run_with(runtime), "--rm", *self.flags(runtime, options), IMAGE, *command, options=options)

    def detach(self, runtime: str, name: str, command: Sequence[str], options: Options) -> Done:
        return self.command(*self.run_with(runtime), "--detach", "--name", name, *self.flags(runtime, options), IMAGE, *command)

    def exec(self, name: str, command: Sequence[str], options: Options) -> Done:
        return self.command("exec", *input_flags(options), name, *command, options=options)

    def kill(self, name: str, signal_name: str) -> Done:
        return self.command("kill", "--signal", signal_name, name)

    def stop_container(self, name: str, grace_s: int) -> Done:
        return self.command("stop", "--time", str(grace_s), name)

    def wait(self, name: str) -> int:
        return int(self.command("wait", name).expect().out)

    def log(self, name: str) -> str:
        return self.command("logs", name).expect().out

    def status(self, name: str) -> str:
        return self.inspect(name, "{{.State.Status}}")

    def out_of_memory(self, name: str) -> bool:
        return self.inspect(name, "{{.State.OOMKilled}}") == "true"

    def pid(self, name: str) -> int:
        return int(self.inspect(name, "{{.State.Pid}}"))

    def inspect(self, name: str, template: str) -> str:
        return self.command("inspect", "--format", template, name).expect().out.strip()

    def pause(self, name: str) -> Done:
        return self.command("pause", name)

    def resume(self, name: str) -> Done:
        return self.command("unpause", name)

    def processes(self, name: str) -> int:
        return len(self.command("top", name).expect().out.splitlines()) - 1

    def memory_shown(self, name: str) -> str:
        return self.command("stats", "--no-stream", "--format", "{{.MemUsage}}", name).expect().out.strip()

    def remove(self, name: str) -> Done:
        done = self.command(*self.removal, name)
        return Done(0, "") if "o such container" in done.err else done


def input_flags(options: Options) -> list[str]:
    flags = ["--tty"] if options.tty else []
    flags += ["--interactive"] if options.text is not None else []
    flags += ["--user", options.user] if options.user is not None else []
    return flags + (["--workdir", options.directory] if options.directory is not None else [])


class Docker(DockerCommands):
    name = "docker"
    programs = ("dockerd", "docker")

    def start_engine(self) -> None:
        socket = f"unix://{self.directory}/docker.sock"
        # Debian's client, which is of the daemon's version, where another stands earlier in PATH
        self.client = [shutil.which("docker", path="/usr/bin") or "docker", "--host", socket]
        self.environment["DOCKER_CONFIG"] = str(self.directory / "client")
        (self.directory / "daemon.json").write_text("{}")
        flags = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", f"--cgroup-parent=/{self.cgroup}"]
        flags += [f"--{name}={self.directory}/{path}" for name, path in PATHS.items()]
        flags += [f"--add-runtime={name}={path}" for name, path in self.runtimes.items() if name != "runc"]
        self.spawn(["dockerd", f"--host={socket}", *flags], "dockerd.log")
        self.wait_until_ready(lambda: self.command("version"), "dockerd.log")
        self.command("import", "--change", f"ENV PATH={PATH}", str(self.layer), IMAGE).expect()

    def stop_engine(self) -> None:
        """Ends the containerd that a dockerd which was itself killed leaves behind."""
        file = self.directory / PATHS["exec-root"] / "containerd" / "containerd.pid"
        if not file.exists():
            return
        pid = int(file.read_text())
        self.daemons[-1].terminate()
        try:
            self.daemons[-1].wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.daemons[-1].kill()
        deadline = time.monotonic() + 5
        while str(self.directory) in command_line(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        if str(self.directory) in command_line(pid):
            os.kill(pid, signal.SIGKILL)

    def run_with(self, runtime: str) -> list[str]:
        return ["run", "--runtime", runtime]


PATHS = {"data-root": "data", "exec-root": "exec", "pidfile": "dockerd.pid", "config-file": "daemon.json"}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""

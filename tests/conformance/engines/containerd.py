"""containerd, by `ctr`: what it has no flag for (user, process limit) goes into a specification that it runs as it stands."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case import IMAGE, PLAIN, Engine, Options, until
from .command import Done, call, call_in_terminal
from .image import PATH, oci_archive


class Containerd(Engine):
    name = "containerd"
    programs = ("containerd", "ctr")
    # `ctr` itself fails; it has no code for each reason
    code_not_found = 1
    code_not_executable = 1

    def start_engine(self) -> None:
        socket = f"{self.directory}/containerd.sock"
        configuration = self.directory / "config.toml"
        configuration.write_text(
            f"""\
version = 2
root = "{self.directory}/root"
state = "{self.directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{socket}"
"""
        )
        # the namespace is also the parent of every container's cgroup
        self.client = ["ctr", "--address", socket, "--namespace", self.cgroup]
        self.spawn(["containerd", "--config", str(configuration)], "containerd.log")
        self.wait_until_ready(lambda: self.command("version"), "containerd.log")
        archive = self.directory / "image.tar"
        oci_archive(self.layer, archive, IMAGE)
        self.command("images", "import", str(archive)).expect()
        self.rootfs = self.directory / "rootfs"
        self.rootfs.mkdir()
        subprocess.run(["tar", "-xf", self.layer, "-C", self.rootfs], check=True)
        self.spawn([*self.client, "events"], "events.log")

    def stop_engine(self) -> None:
        if not self.daemons:
            return
        for line in self.command("containers", "list", "--quiet").out.split():
            self.remove(line)

    def command(self, *words: str, options: Options = PLAIN) -> Done:
        argv = [*self.client, *words]
        if options.tty:
            return call_in_terminal(argv, directory=self.directory, environment=self.environment)
        return call(argv, directory=self.directory, environment=self.environment, text=options.text)

    def arguments(self, runtime: str, name: str, command: Sequence[str], options: Options) -> list[str]:
        flags = ["--runc-binary", self.runtimes[runtime]]
        if options.user is not None or options.pids is not None:
            return [*flags, "--config", str(self.specification(name, command, options)), name]
        flags += ["--tty"] if options.tty else []
        if options.memory_mib is not None:
            flags += ["--memory-limit", str(options.memory_mib << 20)]
        if options.volume is not None:
            flags += ["--mount", f"type=bind,src={options.volume},dst=/volume,options=rbind:{'ro' if options.volume_read_only else 'rw'}"]
        flags += ["--read-only"] if options.read_only else []
        flags += ["--net-host"] if options.host_network else []
        flags += ["--privileged"] if options.privileged else []
        return [*flags, IMAGE, name, *command]

    def specification(self, name: str, command: Sequence[str], options: Options) -> Path:
        directory = self.directory / f"specification-{name}"
        directory.mkdir()
        subprocess.run([self.runtimes["runc"], "spec"], check=True, cwd=directory, timeout=20)
        file = directory / "config.json"
        document: dict[str, Any] = json.loads(file.read_text())
        document["root"] = {"path": str(self.rootfs)}
        document["process"] |= {"terminal": False, "args": [*command], "env": [f"PATH={PATH}"]}
        document["linux"]["cgroupsPath"] = f"/{self.cgroup}/{name}"
        if options.user is not None:
            uid, gid = options.user.split(":")
            document["process"]["user"] = {"uid": int(uid), "gid": int(gid)}
        if options.pids is not None:
            document["linux"]["resources"]["pids"] = {"limit": options.pids}
        file.write_text(json.dumps(document))
        return file

    def run(self, runtime: str, command: Sequence[str], options: Options) -> Done:
        return self.command("run", "--rm", *self.arguments(runtime, self.new_name(), command, options), options=options)

    def detach(self, runtime: str, name: str, command: Sequence[str], options: Options) -> Done:
        log = f"file://{self.log_file(name)}"
        return self.command("run", "--detach", "--log-uri", log, *self.arguments(runtime, name, command, options))

    def exec(self, name: str, command: Sequence[str], options: Options) -> Done:
        flags = ["--exec-id", self.new_name()]
        flags += ["--tty"] if options.tty else []
        flags += ["--user", options.user] if options.user is not None else []
        flags += ["--cwd", options.directory] if options.directory is not None else []
        return self.command("tasks", "exec", *flags, name, *command, options=options)

    def kill(self, name: str, signal_name: str) -> Done:
        return self.command("tasks", "kill", "--signal", f"SIG{signal_name}", name)

    def stop_container(self, name: str, grace_s: int) -> Done:
        """`ctr` has no stop: the same two signals by hand."""
        done = self.kill(name, "TERM")
        deadline = time.monotonic() + grace_s
        while done.code == 0 and self.status(name) != "exited":
            if time.monotonic() > deadline:
                return self.kill(name, "KILL")
            time.sleep(0.05)
        return done

    def wait(self, name: str) -> int:
        until(lambda: bool(self.events("/tasks/exit", name)), "containerd tells of the end", 30)
        # left out when it is 0; `ctr tasks delete` does not tell it
        return int(self.events("/tasks/exit", name)[-1].get("exit_status", 0))

    def log_file(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def log(self, name: str) -> str:
        file = self.log_file(name)
        return file.read_text() if file.exists() else ""

    def task(self, name: str) -> list[str]:
        """Its name, process id and status, or nothing."""
        rows = [line.split() for line in self.command("tasks", "list").expect().out.splitlines()]
        return next((row for row in rows if row[0] == name), [])

    def status(self, name: str) -> str:
        row = self.task(name)
        return {"STOPPED": "exited"}.get(row[2], row[2].lower()) if row else ""

    def pid(self, name: str) -> int:
        return int(self.task(name)[1])

    def out_of_memory(self, name: str) -> bool:
        return bool(self.events("/tasks/oom", name))

    def events(self, topic: str, name: str) -> list[dict[str, Any]]:
        """The events of that topic for the container itself, not for an exec in it."""
        lines = [line.partition(f" {topic} ") for line in (self.directory / "events.log").read_text().splitlines()]
        found: list[dict[str, Any]] = [json.loads(event) for _, matched, event in lines if matched]
        return [event for event in found if event["container_id"] == name == event.get("id", name)]

    def pause(self, name: str) -> Done:
        return self.command("tasks", "pause", name)

    def resume(self, name: str) -> Done:
        return self.command("tasks", "resume", name)

    def processes(self, name: str) -> int:
        return len(self.command("tasks", "ps", name).expect().out.splitlines()) - 1

    def memory_shown(self, name: str) -> str:
        rows = [line.split() for line in self.command("tasks", "metrics", name).expect().out.splitlines()]
        return next((row[1] for row in rows if row and row[0] in ("memory.usage_in_bytes", "memory.usage")), "")

    def remove(self, name: str) -> Done:
        if self.task(name):
            self.kill(name, "KILL")
            self.command("tasks", "delete", "--force", name)
        done = self.command("containers", "delete", name)
        return Done(0, "") if "not found" in done.err else done

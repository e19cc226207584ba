"""A bundle with a busybox root, and a runtime's command line over it; shared by all tests that start containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

CASEMATE = str(Path(sys.executable).with_name("casemate"))
RUNTIMES = {"casemate": CASEMATE, "runc": "/usr/sbin/runc"}
_APPLETS = "sh ls cat id mount ps hostname echo env true false sleep kill grep readlink touch mkdir stat dd wc ln rm test stty head".split()
TIMEOUT_S = 30


def make_rootfs(path: Path) -> Path:
    """A root with busybox and a few files."""
    for directory in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (path / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    for applet in _APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    return path


class Bundle:
    """One bundle and the containers made of it. `config` is config.json as a dict: change it, then `run` or `verb`."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self.directory = directory
        self.runtime = RUNTIMES[runtime]
        self.name = runtime
        self.state = directory / "state"
        self.id = f"t{uuid.uuid4().hex[:12]}"
        self.rootfs = make_rootfs(directory / "rootfs")
        subprocess.run([RUNTIMES["runc"], "spec"], cwd=directory, check=True)
        self.config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self.config["process"]["terminal"] = False
        self.config["process"]["args"] = ["true"]
        self.config["root"]["readonly"] = False
        self.config["linux"]["cgroupsPath"] = f"/casemate-test/{self.id}"

    def write(self) -> None:
        (self.directory / "config.json").write_text(json.dumps(self.config))

    def verb(self, *words: str, check: bool = False, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs one command of the runtime. The output goes to files: a container keeps what it inherits, and a pipe would never end."""
        with (self.directory / "out").open("w+") as out, (self.directory / "err").open("w+") as err:
            done = subprocess.run(
                [self.runtime, "--root", str(self.state), *words], stdout=out, stderr=err, cwd=self.directory, timeout=TIMEOUT_S,
                input=input, text=True, check=False,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            result = subprocess.CompletedProcess(words, done.returncode, out.read(), err.read())
        if check:
            assert result.returncode == 0, result.stderr
        return result

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """`run` with these program arguments (or those of the config)."""
        if args:
            self.config["process"]["args"] = list(args)
        self.write()
        return self.verb("run", "--bundle", str(self.directory), self.id)

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "-c", script)

    def create(self, *args: str) -> None:
        if args:
            self.config["process"]["args"] = list(args)
        self.write()
        self.verb("create", "--bundle", str(self.directory), self.id, check=True)

    def status(self) -> str:
        return str(self.state_document()["status"])

    def state_document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.verb("state", self.id, check=True).stdout)
        return document

    def start_ignoring_signals(self) -> None:
        """From here on the runtime is started with signals ignored: a shell's, nohup's, Python's, a daemon's that wants no zombies."""
        wrapper = self.directory / "ignoring"
        wrapper.write_text(f"#!/bin/sh\ntrap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM CHLD TSTP TTIN TTOU\nexec {self.runtime} \"$@\"\n")
        wrapper.chmod(0o755)
        self.runtime = str(wrapper)

    def close(self) -> None:
        self.verb("delete", "--force", self.id)


def ignored_signals(status: str) -> int:
    """Of a line SigIgn of /proc/PID/status, without those that the C library (32, 33) and Go (34) keep for themselves and leave ignored."""
    return int(status.split()[1], 16) & ~(7 << 31)


def leftovers(container_id: str, directory: Path) -> list[str]:
    """What of a container is still there: mounts, cgroups, state."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory / "rootfs") in line]
    for base, directories, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{base}/{name}" for name in directories if name == container_id]
    state = directory / "state" / container_id
    return found + ([str(state)] if state.exists() else [])

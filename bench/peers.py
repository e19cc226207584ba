"""Who is measured: casemate and the other runtimes that are installed, and the containers that a case makes with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bundle import make_rootfs

CGROUP = "/casemate-bench"
_TREE = Path("/sys/fs/cgroup")
UNIFIED = _TREE / "unified"  # v2's tree on a host that has v1 too
_CACHED = (Path(".cache/bin"), Path(".cache/youki/bin"))
OCI = ("casemate", "runc", "crun", "youki")
NAMES = (*OCI, "bwrap")


@dataclass(frozen=True)
class Peer:
    name: str
    program: str  # empty: not installed
    version: str


@dataclass(frozen=True)
class Container:
    """A bundle of its own below the peer's state, over the root that all share."""

    id: str
    directory: Path
    base: list[str]  # the runtime with its global options

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid"

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def command(self, verb: str, *words: str) -> list[str]:
        """The command line of a verb; those that take a bundle get it."""
        if verb in ("create", "run"):
            words = ("--bundle", str(self.directory), *(["--pid-file", str(self.pid_file)] if verb == "create" else []), *words)
        return [*self.base, verb, *words, self.id]


def find(name: str) -> Peer:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if name == "casemate" and beside.exists() else shutil.which(name) or ""
    if not found:
        found = next((str((folder / name).resolve()) for folder in _CACHED if (folder / name).exists()), "")
    if not found:
        return Peer(name, "", "not installed: no such command" + (" (cargo install youki --features v1 --root .cache/youki)" if name == "youki" else ""))
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip().splitlines()
    return Peer(name, found, shown[0].split()[-1] if shown else "unknown version")


class Workshop:
    """Makes containers and removes them: also those that a failed case left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.peers = {name: find(name) for name in NAMES}
        self.rootfs = make_rootfs(directory / "rootfs")
        subprocess.run([self.peers["runc"].program, "spec"], cwd=directory, check=True)
        self._config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self._config["process"]["terminal"] = False
        self._config["root"] = {"path": str(self.rootfs), "readonly": False}
        self._open: dict[str, Container] = {}

    def installed(self, *names: str) -> list[str]:
        return [name for name in names if self.peers[name].program]

    def base(self, name: str) -> list[str]:
        return [self.peers[name].program, "--root", str(self.directory / f"state-{name}")]

    def container(self, name: str, *program: str, cgroup: str = CGROUP) -> Container:
        made = Container(f"b{uuid.uuid4().hex[:12]}", self.directory / uuid.uuid4().hex, self.base(name))
        made.directory.mkdir()
        config = {**self._config, "process": {**self._config["process"], "args": list(program)}}
        config["linux"] = {**config["linux"], "cgroupsPath": f"{cgroup}/{made.id}"}
        (made.directory / "config.json").write_text(json.dumps(config))
        self._open[made.id] = made
        return made

    def discard(self, container: Container) -> None:
        """For a container that is deleted."""
        del self._open[container.id]
        shutil.rmtree(container.directory)

    def remove(self, container: Container) -> None:
        subprocess.run(container.command("delete", "--force"), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.discard(container)

    def close(self) -> None:
        for container in list(self._open.values()):
            self.remove(container)
        for tree in (_TREE, *(place for place in _TREE.glob("*/") if place != UNIFIED)):
            for path, _, _ in os.walk(f"{tree}{CGROUP}", topdown=False):
                try:
                    os.rmdir(path)
                except OSError as error:
                    print(f"a cgroup is left: {path}: {error.strerror}", file=sys.stderr)

"""A pod's containers as a CRI makes them: the annotations, then the OCI verbs; for every isolation that serves pods."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from bundle import CASEMATE, TIMEOUT_S, make_rootfs

DEADLINE_S = 10
KIND, SANDBOX_ID = "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"


class Pod:
    """A pod's bundles below one directory, and one state root."""

    def __init__(self, directory: Path, isolation: str) -> None:
        self.directory = directory
        self.isolation = isolation
        self.id = f"pod{os.getpid()}{directory.name[-1]}{time.monotonic_ns() % 100000}"
        self.made: list[str] = []

    def verb(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Output goes to files: a container keeps what it inherits."""
        with (self.directory / "out").open("w+") as out, (self.directory / "err").open("w+") as err:
            done = subprocess.run([CASEMATE, "--root", str(self.directory / "state"), *words], stdout=out, stderr=err, timeout=TIMEOUT_S, check=False)
            out.seek(0)
            err.seek(0)
            result = subprocess.CompletedProcess(words, done.returncode, out.read(), err.read())
        assert not check or result.returncode == 0, result.stderr
        return result

    def create(self, name: str, *args: str, kind: str = "container", **changes: Any) -> str:
        """Creates a container; the pod's first has the pod's id. Its root is its own, /shared the pod's."""
        bundle = self.directory / name
        bundle.mkdir()
        make_rootfs(bundle / "rootfs")
        (self.directory / "shared").mkdir(exist_ok=True)
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": [*args], "user": changes.pop("user", {"uid": 0, "gid": 0})}
        config["root"]["readonly"] = False
        config["hostname"] = name
        config["linux"]["cgroupsPath"] = f"/casemate-test/{self.id}-{name}"
        config["mounts"].append({"destination": "/shared", "type": "bind", "source": str(self.directory / "shared"), "options": ["rbind", "rw"]})
        config["annotations"] = {KIND: kind, SANDBOX_ID: self.id, "dev.casemate.isolation": self.isolation}
        if kind == "container":
            del config["annotations"]["dev.casemate.isolation"]  # the pod's is taken
        if network := changes.pop("network", ""):
            kinds = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "network"]
            config["linux"]["namespaces"] = [*kinds, {"type": "network", "path": network}]
        config.update(changes)
        (bundle / "config.json").write_text(json.dumps(config))
        container = self.id if kind == "sandbox" else f"{self.id}-{name}"
        self.made.append(container)
        self.verb("create", "--bundle", str(bundle), container)
        return container

    def start(self, name: str, *args: str, **more: Any) -> str:
        container = self.create(name, *args, **more)
        self.verb("start", container)
        return container

    def status(self, container: str) -> str:
        return str(json.loads(self.verb("state", container).stdout)["status"])

    def pid(self, container: str) -> int:
        return int(json.loads(self.verb("state", container).stdout)["pid"])

    def wait(self, container: str, status: str = "stopped") -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.status(container) != status:
            assert time.monotonic() < deadline, self.status(container)
            time.sleep(0.01)

    def exec(self, container: str, script: str, code: int = 0) -> str:
        done = self.verb("exec", container, "sh", "-c", script, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    def shared(self, name: str) -> str:
        file = self.directory / "shared" / name
        deadline = time.monotonic() + DEADLINE_S
        while not file.exists() or not file.read_text().endswith("\n"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return file.read_text()

    def close(self) -> None:
        for container in reversed(self.made):
            self.verb("delete", "--force", container, check=False)

"""Runs the judges on our monitor: firecracker-go-sdk's own tests, PyPI's client, requests made from the schema.

Each yields (name, why it failed, why it is no matter of ours). The guest is the tests' own; Linux is not needed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.microvm.monitor import Monitor, build_guest, engine

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / ".cache" / "microvm"
SDK = "github.com/firecracker-microvm/firecracker-go-sdk@v1.0.0"
CLIENTS = ("schemathesis==4.32.5", "firecracker-python==0.0.5", "requests-unixsocket==0.4.1")
# Requests for each operation and each of: as the schema says, and not.
NR_REQUESTS = 25
Result = tuple[str, str, str]

# Tests of the SDK that ask for something else than the API.
NOT_OURS = {
    "TestJailerMicroVMExecution": "Firecracker's jailer",
    "TestNetworkMachineCNI": "CNI plugins, and a root image with ssh",
    "TestLoadSnapshot": "a root image with ssh",
}


def not_ours(name: str) -> str:
    return next((f"needs {why}" for test, why in NOT_OURS.items() if name.startswith(test)), "")


@contextmanager
def network() -> Iterator[str]:
    """A network namespace with the taps that the SDK's tests name."""
    name = f"cmj-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for tap in ("tap0", "fc-test-tap0"):
            subprocess.run(["ip", "-n", name, "tuntap", "add", tap, "mode", "tap"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def build_sdk() -> Path:
    """The SDK's directory, with its tests built into `sdk.test`."""
    source = CACHE / "sdk"
    if (source / "sdk.test").exists():
        return source
    shutil.rmtree(source, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(["go", "mod", "download", "-json", SDK], check=True, cwd=CACHE, capture_output=True, text=True).stdout
    shutil.copytree(json.loads(answer)["Dir"], source)
    subprocess.run(["chmod", "-R", "u+w", source], check=True)
    # Its golang.org/x/net is from before Go wanted such references declared.
    subprocess.run(["go", "test", "-c", "-ldflags=-checklinkname=0", "-o", "sdk.test", "."], cwd=source, check=True)
    return source


def sdk() -> Iterator[Result]:
    source = build_sdk()
    with tempfile.TemporaryDirectory() as folder, network() as name:
        data = Path(folder)
        build_guest("start", data / "vmlinux")
        for image in ("root-drive.img", "root-drive-with-ssh.img", "drive-2.img", "drive-3.img"):
            (data / image).write_bytes(bytes(1 << 20))
        shutil.copy(source / "testdata" / "sigprint.sh", data)
        (data / "firecracker").write_text(f'#!/bin/sh\nexec {engine()} vmm "$@"\n')
        (data / "firecracker").chmod(0o755)
        (data / "sigprint.sh").chmod(0o755)
        # The test that is left out panics on a version like 1.16: its pattern knows no minor number of two digits.
        words = [
            "ip",
            "netns",
            "exec",
            name,
            str(source / "sdk.test"),
            "-test.v",
            "-test.timeout=300s",
            "-test.skip=TestMicroVMExecution/TestGetFirecrackerVersion",
        ]
        environment = os.environ | {"FC_TEST_DATA_PATH": folder, "FC_TEST_TAP": "fc-test-tap0"}
        ended = subprocess.run(words, cwd=source, env=environment, capture_output=True, text=True, errors="replace", check=False)
    (CACHE / "sdk.log").write_text(ended.stdout + ended.stderr)
    found = re.findall(r"^ *--- (PASS|FAIL|SKIP): (\S+)", ended.stdout, re.MULTILINE)
    parents = {name.rsplit("/", 1)[0] for verdict, name in found if "/" in name}
    for verdict, name in found:
        if name in parents:
            continue  # its parts are told
        why = "" if verdict == "PASS" else f"{verdict}, see {CACHE / 'sdk.log'}"
        yield f"sdk {name}", why, not_ours(name)
    if not found or "panic:" in ended.stdout:
        yield "sdk", f"ended early: {ended.stdout[-300:]}", ""


def clients() -> Path:
    """The python of an environment with the clients."""
    folder = CACHE / "clients"
    if not (folder / ".built").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *CLIENTS], check=True)
        (folder / ".built").touch()
    return folder / "bin" / "python"


def lines(words: list[str], cwd: Path) -> Iterator[dict[str, object]]:
    """The objects that a script prints, one a line; last, why it ended early, if it did."""
    ended = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=900, check=False)
    # Libraries print too.
    yield from (json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"name"'))
    if ended.returncode:
        yield {"name": "script", "why": ended.stderr[-300:]}


def pypi_client() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        guest = build_guest("start", here / "guest.elf")
        (here / "disk").write_bytes(bytes(1 << 20))
        monitor = Monitor(here)
        try:
            words = [str(clients()), str(HERE / "client.py"), str(monitor.socket), str(guest), str(here / "disk"), str(here / "vsock")]
            for line in lines(words, here):
                yield f"client {line['name']}", str(line["why"]), ""
            monitor.process.wait(20)
            yield "client: the guest ended by Ctrl+Alt+Del", "" if monitor.process.returncode == 0 else "it did not", ""
        finally:
            monitor.close()


def contract() -> Iterator[Result]:
    """Before the machine starts, and while one runs."""
    for stage in ("before the start", "while it runs"):
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "file").write_bytes(bytes(1 << 20))
            # Paths in requests are relative to its folder.
            monitor = Monitor(here, prefix=["env", "-C", folder])
            try:
                if stage == "while it runs":
                    monitor.ok("PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1, "free_page_hinting": True})
                    monitor.ok("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "is_read_only": False, "path_on_host": str(here / "file")})
                    monitor.boot(build_guest("start", here / "guest.elf"), "test=count")
                words = [str(clients()), str(HERE / "contract.py"), str(monitor.socket), str(HERE / "api.yaml"), str(monitor.process.pid), str(NR_REQUESTS)]
                for line in lines(words, here):
                    yield f"{line['name']} {stage}", str(line["why"]), ""
            finally:
                monitor.close()


def judge() -> Iterator[Result]:
    yield from pypi_client()
    yield from contract()
    yield from sdk()


if __name__ == "__main__":
    for name, why, excuse in judge():
        print(f"{name:70} {'skip' if why and excuse else 'FAIL' if why else 'pass'} {why and (excuse or why)}", file=sys.stdout, flush=True)

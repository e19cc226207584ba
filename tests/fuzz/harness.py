"""Runs fuzz.c in a sandbox, and looks at what it may not hurt: the sentry, its other programs, the host."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bundle import CASEMATE, Bundle

SOURCE = Path(__file__).with_name("fuzz.c")
ANSWER_S = 30
# What a sentry may hold while programs try to have it hold more.
MOST_KIB = 512 << 10
# As a container of podman's or Docker's has them: more of the sentry is to be reached.
CAPABILITIES = ["CAP_" + name for name in "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID NET_BIND_SERVICE SYS_CHROOT MKNOD".split()]
FAULTS = ("panic", "refused call", "abort", "poison")


@dataclass
class Report:
    processes: int = 0
    answers: int = 0
    highest_kib: int = 0
    last_kib: int = 0
    last_descriptors: int = 0
    faults: list[str] = field(default_factory=list)


def build(target: Path) -> None:
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wno-unused-result", "-pthread", "-o", target, SOURCE], check=True)


def run(bundle: Bundle, seed: int, seconds: int, most: int) -> Report:
    """The container is made of `bundle`; the caller deletes it and asks for what it left."""
    bundle.config["annotations"] = {"dev.casemate.isolation": "sentry"}
    bundle.config["process"]["args"] = ["sleep", "1000000"]
    bundle.config["linux"]["resources"] = {"pids": {"limit": 512}, "memory": {"limit": 1 << 30}}
    bundle.config["process"]["noNewPrivileges"] = False
    bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    # Its own, which the fuzzer cannot write to: the container's files it may destroy.
    watch = bundle.directory / "watch"
    watch.mkdir()
    shutil.copy("/bin/busybox", watch)
    build(watch / "fuzz")
    bundle.config["mounts"].append({"destination": "/watch", "type": "bind", "source": str(watch), "options": ["rbind", "ro"]})
    bundle.write()
    log = bundle.directory / "sentry.log"
    with log.open("wb") as errors:
        create = [CASEMATE, "--root", str(bundle.state), "create", "--bundle", str(bundle.directory), bundle.id]
        subprocess.run(create, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, check=True, timeout=ANSWER_S)
    bundle.verb("start", bundle.id, check=True)
    bundle.verb("exec", bundle.id, "/watch/fuzz", check=True)
    report = Report()
    sentry = int(bundle.state_document()["pid"])
    command = [CASEMATE, "--root", str(bundle.state), "exec", bundle.id, "/watch/fuzz", str(seed), str(seconds), str(most)]
    # Not through a pipe, which would not end with the process: the sentry holds what the program's descendants have.
    told = bundle.directory / "fuzz.out"
    with told.open("w") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as fuzzing:
        until = time.monotonic() + seconds + 2 * ANSWER_S
        while fuzzing.poll() is None and time.monotonic() < until and not report.faults:
            look(bundle, sentry, report)
            time.sleep(0.2)
        if fuzzing.poll() is None and not report.faults:
            report.faults.append("the fuzzer did not end")
        if fuzzing.poll() is None:
            fuzzing.kill()
    output = told.read_text(errors="replace")
    if not report.faults:
        look(bundle, sentry, report)
        report.last_kib, report.last_descriptors = resident_kib(sentry), len(list(Path(f"/proc/{sentry}/fd").iterdir()))
        # Before it may stand what a process found a way to write there.
        last = re.search(r"(\d+) processes\n$", output)
        report.processes = int(last[1]) if last else 0
        if not report.processes:
            report.faults.append(f"the fuzzer was ended: {fuzzing.returncode} {output.strip(chr(0))[-200:]!r}")
    logged = log.read_text(errors="replace")
    report.faults += [line for line in logged.splitlines() if any(word in line for word in FAULTS)][:20]
    return report


def look(bundle: Bundle, sentry: int, report: Report) -> None:
    """Another program of the sandbox answers, and the sentry keeps its bounds."""
    try:
        done = bundle.verb("exec", "--cwd", "/", bundle.id, "/watch/busybox", "echo", "alive")
    except subprocess.TimeoutExpired:
        report.faults.append("no answer from another program")
        return
    if done.stdout != "alive\n":
        report.faults.append(f"another program: {done.returncode} {done.stdout!r} {done.stderr[-500:]!r}")
        return
    report.answers += 1
    report.highest_kib = max(report.highest_kib, resident_kib(sentry))
    if report.highest_kib > MOST_KIB:
        report.faults.append(f"{report.highest_kib} KiB resident")


def resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)

"""The sentry's own jail: each call on its list is made for some program, nothing else is, and a sentry that faults takes everything with it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import Bundle, leftovers
from casemate.errors import HostError
from casemate.report.filters import read_filters

SOURCES = Path(__file__).parent / "sentry"
ANNOTATION = "dev.casemate.isolation"
# The handler that names a refused call: there is none to be named.
# The thread that spins for programs moves only while a core is idle and it pays, which a tracer sees to that it does not. Nor is a channel made for who calls
# so slowly, and it goes by munmap(2), as large blocks do: when they do is the allocator's matter.
NEVER_SEEN = {"rt_sigreturn", "sched_setaffinity", "munmap"}
# Asked for by libraries, and refused without a word.
BORNE = {"brk", "mremap", "madvise", "sched_yield", "sched_getaffinity"}
DEADLINE_S = 20


@pytest.fixture
def sentry(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path, "casemate")
    made.config["annotations"] = {ANNOTATION: "sentry"}
    # Loopback is up in the host's namespace only.
    made.config["linux"]["namespaces"] = [each for each in made.config["linux"]["namespaces"] if each["type"] != "network"]
    yield made
    made.close()
    assert leftovers(made.id, tmp_path) == []


def build(source: str, bundle: Bundle) -> str:
    program = bundle.rootfs / "bin" / Path(source).stem
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wno-unused-result", "-pthread", "-o", program, SOURCES / source], check=True)
    return f"/bin/{program.name}"


def watched(bundle: Bundle, log: Path) -> subprocess.Popen[bytes]:
    """strace on what becomes the sentry, and on all that it starts."""
    own = int(bundle.state_document()["pid"])
    running = subprocess.Popen(["strace", "-f", "-q", "-o", str(log), "-p", str(own)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + DEADLINE_S
    while "TracerPid:\t0" in Path(f"/proc/{own}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return running


def jailed_calls(log: str, own: int) -> set[str]:
    """Of the sentry's threads, since its jail is closed."""
    before, closing, after = log.partition("SECCOMP_FILTER_FLAG_TSYNC")
    assert closing
    named = re.findall(r'^(\d+) +prctl\(PR_SET_NAME, "(?:worker|server|offload|control|hooks)', before, re.MULTILINE)
    threads = "|".join({str(own), *named})
    return set(re.findall(rf"^(?:{threads}) +(\w+)\(", after, re.MULTILINE))


def test_each_call_of_the_list_is_made_and_no_other(sentry: Bundle, tmp_path: Path) -> None:
    if not Path("/usr/bin/strace").exists():
        pytest.skip("needs strace")
    program = build("rows.c", sentry)
    sentry.create(program, "/tmp")
    own = int(sentry.state_document()["pid"])
    log = tmp_path / "calls"
    with watched(sentry, log) as tracer:
        sentry.verb("start", sentry.id, check=True)
        sentry.verb("ps", sentry.id)
        tracer.wait(60)
    seen = jailed_calls(log.read_text(), own)
    report = json.loads(sentry.verb("surface", "--isolation", "sentry", "--json", check=True).stdout)
    listed = set(report["sentry"]["reachable"])
    assert listed - seen - NEVER_SEEN == set(), "rows that nothing needs"
    assert seen - listed - BORNE == set(), "calls that are refused"


# ud2; mov dword [0], 0; jmp to itself would be a hang and not a fault.
@pytest.mark.parametrize("code", [b"\x0f\x0b", bytes.fromhex("c7042500000000") + b"\0\0\0\0"], ids=["illegal", "null"])
def test_a_faulting_sentry_takes_all_programs_with_it(sentry: Bundle, code: bytes) -> None:
    sentry.create("sh", "-c", "while :; do (sleep 0.01; true | cat) & sleep 0.01; done")
    sentry.verb("start", sentry.id, check=True)
    own = int(sentry.state_document()["pid"])
    thread = next(each for each in Path(f"/proc/{own}/task").iterdir() if (each / "comm").read_text() == "worker\n")
    deadline = time.monotonic() + DEADLINE_S
    # Where it returns to from waiting for calls.
    while not (fields := (thread / "syscall").read_text().split())[0].isdigit():
        assert time.monotonic() < deadline
    with open(f"/proc/{own}/mem", "r+b", buffering=0) as memory:
        memory.seek(int(fields[-1], 16))
        memory.write(code)
    while sentry.status() != "stopped" or process_is_there(own):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def process_is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_that_waits_for_its_sentry_is_not_waited_for(sentry: Bundle) -> None:
    """It cannot be stopped to be looked at: that is said, and it is let go."""
    sentry.config["process"]["args"] = ["/bin/sleep", "1000"]
    sentry.create()
    sentry.verb("start", sentry.id)
    zygote = _children(sentry.state_document()["pid"])[0]
    deadline = time.monotonic() + DEADLINE_S
    message = ""
    while not message:
        assert time.monotonic() < deadline, "it never waits"
        programs = _children(zygote)
        if not programs:
            continue
        try:
            read_filters(programs[0])
        except HostError as error:
            message = str(error)
    assert message.startswith(f"no thread of process {programs[0]} can be stopped")
    # A joined thread of Python's is on its way out: the kernel lets go when it is.
    while "TracerPid:\t0\n" not in Path(f"/proc/{programs[0]}/status").read_text():
        assert time.monotonic() < deadline, "it is still traced"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

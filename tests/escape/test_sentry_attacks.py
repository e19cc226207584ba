"""Attacks of a program on the sentry that serves it. The program may die; the sentry, its other containers and the host go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE, leftovers
from casemate.report.bpf import ARCH_I386, ARCH_X86_64, X32_BIT, Instruction, answers
from casemate.report.filters import read_filters
from casemate.report.names import NAMES
from pod import Pod

SOURCES = Path(__file__).parent / "sentry"
DEADLINE_S = 20
ATTACK_S = 60
SECRET = "the host's own words"
NUMBERS = ["numbers", "entries", "stub", "vsyscall", "mode32"]
RACES = ["fetch", "paths", "bombs"]
TRACING = ["tracers", "registers", "pages"]
MEMORY = ["scribble", "forge", "unmap", "step", "storm"]
LAST_CALL = 470
# crates/platform/src/filter.rs
NATIVE = set(
    "futex mmap munmap mprotect mremap brk madvise sched_yield getpid gettid clock_gettime set_robust_list set_tid_address rseq arch_prctl rt_sigaction".split()
)
MOST_OF_THE_SENTRY = 60
# What the sentry's log may not have: each is a bug of ours, even if a wall held.
FAULTS = ("panic", "refused call", "poison", "abort")


class Attacked(Pod):
    """A pod whose sentry's messages are kept, with one container for attacks and one that must not notice."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "sentry")
        self.log = directory / "sentry.log"
        self.programs = directory / "programs"
        self.programs.mkdir()
        self.secret = directory / "secret"
        self.secret.write_text(SECRET)

    def verb(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        if words[0] != "create":
            return super().verb(*words, check=check)
        with self.log.open("ab") as log:
            done = subprocess.run([CASEMATE, "--root", str(self.directory / "state"), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=check)
        return subprocess.CompletedProcess(words, done.returncode, "", "")

    def set_up(self) -> None:
        self.start("pause", "sleep", "1000000", kind="sandbox")
        # A bomb is to hit its own container's limits, not the machine's.
        linux = json.loads((self.directory / "pause/config.json").read_text())["linux"]
        linux |= {"cgroupsPath": f"/casemate-test/{self.id}-attacker", "resources": {"pids": {"limit": 512}, "memory": {"limit": 512 << 20}}}
        self.attacker = self.create("attacker", "sleep", "1000000", linux=linux)
        for source in SOURCES.glob("*.c"):
            program = self.root / "bin" / source.stem
            subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wno-unused-result", "-Wno-unused-function", "-pthread", "-o", program, source], check=True)
        super().verb("start", self.attacker)
        self.other = self.start("other", "sleep", "1000000")
        (self.directory / "shared/secret-path").write_text(str(self.secret))
        self.sentry = self.pid(self.id)
        self.threads = len(os.listdir(f"/proc/{self.sentry}/task"))

    @property
    def root(self) -> Path:
        return self.directory / "attacker/rootfs"

    def processes(self, name: str) -> list[int]:
        """Of a container's cgroup, on the host."""
        found = set()
        for base, _, files in os.walk("/sys/fs/cgroup"):
            if base.endswith(f"/{self.id}-{name}") and "cgroup.procs" in files:
                found.update(int(pid) for pid in (Path(base) / "cgroup.procs").read_text().split())
        return sorted(pid for pid in found if state_of(pid) not in "ZX")

    def attack(self, *words: str) -> subprocess.CompletedProcess[str]:
        # An attack may have taken the root's mode, or hidden the programs from itself.
        self.root.chmod(0o755)
        before = self.processes("attacker")
        out = self.directory / "attack.out"
        with out.open("w") as file:
            command = [CASEMATE, "--root", str(self.directory / "state"), "exec", self.attacker, *words]
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=ATTACK_S, check=False).returncode
        self.expect_health(before)
        return subprocess.CompletedProcess(words, code, out.read_text(), "")

    def expect_health(self, before: list[int]) -> None:
        assert self.exec(self.other, "echo lives; cat /proc/1/comm") == "lives\nsleep\n"
        deadline = time.monotonic() + DEADLINE_S
        while self.processes("attacker") != before:
            assert time.monotonic() < deadline, "processes are left on the host"
            time.sleep(0.02)
        self.root.chmod(0o755)
        assert self.exec(self.attacker, "echo lives") == "lives\n"
        assert self.pid(self.id) == self.sentry
        assert len(os.listdir(f"/proc/{self.sentry}/task")) == self.threads
        assert [line for line in self.log.read_text(errors="replace").splitlines() if any(word in line for word in FAULTS)] == []
        assert self.secret.read_text() == SECRET


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_program(pid: int) -> bool:
    try:
        return state_of(pid) == "R" and os.readlink(f"/proc/{pid}/exe").startswith("/memfd:casemate ")
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    made = Attacked(tmp_path_factory.mktemp("attacked"))
    made.set_up()
    yield made
    made.close()
    for container in made.made:
        assert leftovers(container, made.directory) == []


def passing(filters: list[list[Instruction]], arch: int = ARCH_X86_64, bit: int = 0) -> set[int]:
    """Numbers that the host's kernel gets with some arguments, from some address."""
    allow = 0x7FFF0000
    return {number for number in range(LAST_CALL + 1) if all(allow in answers(program, number | bit, arch) for program in filters)}


def test_live_filters_of_programs_and_of_the_sentry_pass_their_lists_alone(attacked: Attacked) -> None:
    before = set(attacked.processes("attacker"))
    # One that runs: a thread that waits for the sentry does not stop for a tracer.
    command = [CASEMATE, "--root", str(attacked.directory / "state"), "exec", attacked.attacker, "sh", "-c", "while :; do :; done"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + DEADLINE_S
        while not (new := [pid for pid in attacked.processes("attacker") if pid not in before and is_program(pid)]):
            assert time.monotonic() < deadline
        filters = read_filters(new[0])
        running.kill()
    assert {NAMES[number] for number in passing(filters)} == NATIVE
    assert passing(filters, ARCH_X86_64, X32_BIT) | passing(filters, ARCH_I386) == set()
    own = read_filters(attacked.sentry)
    assert 40 < len(passing(own)) <= MOST_OF_THE_SENTRY
    assert passing(own, ARCH_X86_64, X32_BIT) | passing(own, ARCH_I386) == set()


@pytest.mark.parametrize("attack", NUMBERS)
def test_each_number_by_each_entry_and_at_the_stub_s_instructions(attacked: Attacked, attack: str) -> None:
    done = attacked.attack("numbers", attack)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("attack", MEMORY)
def test_memory_that_is_shared_or_ours_is_written_over_unmapped_and_interrupted(attacked: Attacked, attack: str) -> None:
    done = attacked.attack("memory", attack)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("attack", RACES)
def test_what_a_call_was_given_changes_meanwhile_and_too_much_of_everything(attacked: Attacked, attack: str) -> None:
    """Among it: names that are links to the host's secret by turns, which no call reads."""
    done = attacked.attack("races", attack)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("attack", TRACING)
def test_tracers_that_die_at_any_point_set_any_register_and_reach_for_the_stub(attacked: Attacked, attack: str) -> None:
    done = attacked.attack("tracing", attack)
    assert done.returncode == 0, done.stdout

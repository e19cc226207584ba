"""Machines that were booted once and are restored per start, under QEMU. User Mode Linux cannot: its kernel is a process, which nothing saves."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle import CASEMATE
from casemate.guest import store
from casemate.hypervisor import qmp, template, template_machine
from casemate.hypervisor.qemu import Qemu
from microvm.monitor import wait_for
from microvm.processes import command, tree

LOOK = "head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '; date +%s; cat /hello"


@pytest.fixture
def guest_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of the test's own, with the installed kernels. Not below pytest's directory, which a hypervisor's ids may not enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        path = Path(made)
        path.chmod(0o755)
        (path / "kernels").symlink_to(f"{store.directory()}/kernels")
        monkeypatch.setenv("CASEMATE_GUEST", made)
        yield path


def look(tmp_path: Path) -> list[str]:
    """What a guest says of itself: a random number, its time, and a file that is bound."""
    (tmp_path / "hello").write_text("from the host\n")
    words = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", "--hypervisor=qemu", "--bind", f"{tmp_path}/hello:/hello:ro"]
    done = subprocess.run([*words, "--", "sh", "-c", LOOK], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def templates(guest: Path) -> list[str]:
    return sorted(name for name in os.listdir(guest / "templates") if not name.startswith("."))


def test_copies_have_nothing_in_common_that_must_differ(guest_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two starts from one template: other random numbers, the host's time, the container's own files. What a machine is made of makes another template."""
    one, two = look(tmp_path), look(tmp_path)
    made = templates(guest_store)
    assert len(made) == 1
    assert one[0] != two[0], "two copies draw the same random numbers"
    assert abs(int(two[1]) - time.time()) < 20
    assert one[2] == two[2] == "from the host"
    assert Qemu().machine(512).restored
    assert templates(guest_store) == made
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    assert Qemu().machine(512).restored is None
    monkeypatch.delenv("CASEMATE_TEMPLATE")
    # A kernel that was installed anew is another. Only the newest few templates stay.
    os.utime(guest_store / "templates" / made[0], (1, 1))
    for name in ("first", "second", "third"):
        (guest_store / "templates" / f"qemu-{name}").touch()
    monkeypatch.setattr(qmp, "save_template", lambda *order: Path(order[-1]).mkdir())
    installed = (guest_store / "kernels").resolve()
    (guest_store / "kernels").unlink()
    shutil.copytree(installed, guest_store / "kernels")
    assert Qemu().machine(512).restored
    left = templates(guest_store)
    assert len(left) == 4
    assert not {made[0]} & set(left)


def test_without_a_template_the_machine_boots_and_doctor_says_why(guest_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_machine, "BOOT_S", 0.01)
    assert Qemu().machine(512).restored is None
    assert "boot anew at each start: no template of a machine could be made: the agent's first word did not come" in Qemu().remark()
    assert templates(guest_store) == []


def start_and_terminate(tmp_path: Path, has_come: Callable[[int], object]) -> None:
    """Starts a machine, sends SIGTERM when `has_come` says so of the process, and expects that the start ends by it."""
    words = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", "--hypervisor=qemu", "--", "true"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: has_come(process.pid))
            process.terminate()
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (143, "casemate: ended by signal 15 before the program began\n")
    assert [name for name in os.listdir(tmp_path / "state") if not name.startswith(".")] == []


def test_a_signal_ends_the_making_of_a_template(guest_store: Path, tmp_path: Path) -> None:
    # The kernel says nothing before the agent does, so the maker waits for it from when its file is there.
    start_and_terminate(tmp_path, lambda _: list(guest_store.glob("templates/*.new")))
    assert templates(guest_store) == []
    # Nobody takes it for a template that cannot be made.
    assert not (guest_store / "templates/.failed").exists()


def test_a_signal_ends_the_wait_for_another_who_makes_it(guest_store: Path, tmp_path: Path) -> None:
    (guest_store / "templates").mkdir()
    with open(guest_store / "templates/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start_and_terminate(tmp_path, lambda _: str(os.stat(lock.fileno()).st_ino) in waiting())


def test_a_signal_ends_the_boot_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_TEMPLATE", "0")
    start_and_terminate(tmp_path, lambda pid: any("qemu" in name for name in commands(pid)))


def test_a_killed_maker_takes_its_machine_with_it(guest_store: Path, tmp_path: Path) -> None:
    """It is not jailed yet, and has no relay that would end it."""
    words = [CASEMATE, "--root", str(tmp_path / "state"), "do", "--isolation=microvm", "--hypervisor=qemu", "--", "true"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(guest_store.glob("templates/*.new")) and any("qemu" in name for name in commands(process.pid)))
        machine = [pid for pid in tree(process.pid) if pid != process.pid]
        process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in machine))
    assert all(name.endswith(".new") for name in templates(guest_store)), "what is half made is taken for a template"


def commands(pid: int) -> set[str]:
    """What a process and those below it execute."""
    found = set()
    for each in tree(pid):
        try:
            found.add(command(each))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_what_a_killed_maker_left_is_in_nobodys_way(guest_store: Path) -> None:
    made: list[str] = []

    def make(path: str) -> None:
        os.mkdir(path)
        made.append(path)

    left = Path(template.place("kind", [], ["word"]) + ".new")
    left.mkdir(parents=True)
    (left / "state").touch()
    path = template.state("kind", [], ["word"], make)
    assert made == [str(left)]
    assert os.listdir(path) == []


def waiting() -> set[str]:
    """The inodes of files that somebody waits to lock (proc(5), /proc/locks)."""
    return {line.split()[6].split(":")[2] for line in Path("/proc/locks").read_text().splitlines() if "->" in line}

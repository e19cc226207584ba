"""CVE-2019-5736: a container must not reach the runtime's program on the host through /proc/PID/exe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import eventually, grant, host_programs, install, start

from bundle import Bundle


@pytest.fixture(autouse=True)
def programs_unchanged() -> Iterator[None]:
    before = host_programs()
    yield
    assert host_programs() == before


def test_the_write_works_on_a_program_that_is_not_the_runtimes(bundle: Bundle) -> None:
    (bundle.rootfs / "bin/cp").symlink_to("busybox")
    running = "while [ $(readlink /proc/$!/exe) != /tmp/busybox ]; do :; done; exec 9< /proc/$!/exe; kill $!; wait"
    script = f"cp /bin/busybox /tmp/busybox; /tmp/busybox sleep 100 & {running}; echo pwned > /proc/self/fd/9; head -c 5 /tmp/busybox"
    assert bundle.shell(script).stdout == "pwned"


@pytest.mark.parametrize("entry", ["script", "direct", "link"])
def test_program_that_is_the_runtime_itself(bundle: Bundle, entry: str) -> None:
    grant(bundle)
    script = bundle.rootfs / "entry"
    if entry == "script":
        script.write_text("#!/proc/self/exe\n")
        script.chmod(0o755)
    else:
        script.symlink_to("/proc/self/exe")
    done = bundle.run("/proc/self/exe" if entry == "direct" else "/entry")
    assert done.returncode != 0
    assert bundle.run("true").returncode == 0


@pytest.mark.parametrize("more", [(), ("CAP_SYS_PTRACE",)])
def test_process_1_that_waits_for_start(bundle: Bundle, more: tuple[str, ...]) -> None:
    grant(bundle, *more)
    bundle.create("true")
    script = "(echo pwned > /proc/1/exe) && echo opened; exec 9< /proc/1/exe; touch /tmp/held; (echo pwned > /proc/self/fd/9) && echo wrote"
    assert bundle.verb("exec", bundle.id, "sh", "-c", script).stdout == ""
    assert (bundle.rootfs / "tmp/held").exists() == bool(more)  # the process is dumpable to a capability of the host only


def test_image_held_open_until_start(bundle: Bundle) -> None:
    grant(bundle, "CAP_SYS_PTRACE")
    bundle.create("sleep", "100")
    script = "exec 9< /proc/1/exe; touch /tmp/held; while [ $(readlink /proc/1/exe) != /bin/busybox ]; do :; done"
    bundle.verb("exec", "--detach", bundle.id, "sh", "-c", f"{script}; (echo pwned > /proc/self/fd/9) && touch /tmp/wrote; touch /tmp/end")
    tmp = bundle.rootfs / "tmp"
    eventually((tmp / "held").exists, "the attacker does not run")
    bundle.verb("start", bundle.id, check=True)
    eventually((tmp / "end").exists, "the attacker does not end")
    assert not (tmp / "wrote").exists()


@pytest.mark.parametrize("program", ["true", "/proc/self/exe"])
def test_watcher_of_new_processes_during_exec(bundle: Bundle, hostile: Path, program: str) -> None:
    grant(bundle, "CAP_SYS_PTRACE")
    install(bundle, hostile)
    log = bundle.rootfs / "tmp/log"
    start(bundle, "hostile", "watch", "/tmp/log")
    eventually(log.exists, "the watcher does not run")
    for _ in range(20):
        bundle.verb("exec", bundle.id, program)
    events = {line.split()[0] for line in log.read_text().splitlines()}
    assert "wrote" not in events
    assert "seen" in events

"""`exec` into a container that has prepared for it: another /proc, another loader, an eye on what joins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from attacks import eventually, grant, host_programs, install, mount_points, start

from bundle import Bundle

HOSTILE_PROC = {
    "tmpfs": "mount -t tmpfs none /proc",
    "directory": "mount --bind /fake /proc",
    "own mounts": "mount -t tmpfs none /proc/self/fd; mount --bind /fake/self /proc/1; mount --bind /fake/self /proc/sys",
    "nothing": "umount -l /proc",
    "links": "mount -t tmpfs none /proc; ln -s / /proc/self; ln -s /etc /proc/sys; ln -s /proc/self /proc/1",
}


@pytest.mark.parametrize("kind", HOSTILE_PROC)
def test_proc_is_replaced(bundle: Bundle, canary: Path, kind: str) -> None:
    grant(bundle, "CAP_SYS_ADMIN")
    fake = bundle.rootfs / "fake/self"
    (fake / "attr").mkdir(parents=True)
    (bundle.rootfs / "etc/target").write_text("target")
    for name in ("attr/exec", "attr/current", "exe", "setgroups", "oom_score_adj", "timens_offsets"):
        (fake / name).symlink_to("/etc/target")
    (fake / "fd").symlink_to("/etc")
    (bundle.rootfs / "bin/umount").symlink_to("busybox")
    before, programs = mount_points(), host_programs()
    start(bundle, "sh", "-c", f"{HOSTILE_PROC[kind]}; touch /tmp/ready; sleep 100")
    eventually((bundle.rootfs / "tmp/ready").exists, "the attacker does not run")
    done = bundle.verb("exec", "--user", "1000:1000", "--cwd", "/tmp", bundle.id, "sh", "-c", "id -u; echo $PWD; test -e $0 || echo hidden", str(canary))
    assert done.stdout in ("", "1000\n/tmp\nhidden\n")
    assert "Traceback" not in done.stderr
    assert (bundle.rootfs / "etc/target").read_text() == "target"
    assert (mount_points(), host_programs()) == (before, programs)


@pytest.fixture(scope="session")
def library(hostile: Path) -> Path:
    """A library that leaves a mark when a program loads it."""
    source = hostile.with_name("evil.c")
    source.write_text("#include <fcntl.h>\n__attribute__((constructor)) static void f(void) { open(MARK, O_CREAT | O_WRONLY, 0666); }\n")
    path = hostile.with_name("evil.so")
    subprocess.run(["cc", "-shared", "-fPIC", f'-DMARK="{hostile.with_name("loaded")}"', "-o", str(path), str(source)], check=True)
    return path


def test_loader_is_replaced(bundle: Bundle, library: Path) -> None:
    mark = library.with_name("loaded")
    subprocess.run(["/bin/ls"], env={"LD_PRELOAD": str(library)}, check=True, stdout=subprocess.DEVNULL)
    assert mark.exists()  # a program of the host loads it
    mark.unlink()
    inside = bundle.rootfs / str(mark)[1:]
    inside.parent.mkdir(parents=True)
    for place in ("evil.so", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6", str(library)[1:]):
        (bundle.rootfs / place).parent.mkdir(parents=True, exist_ok=True)
        (bundle.rootfs / place).write_bytes(library.read_bytes())
        (bundle.rootfs / place).chmod(0o755)
    (bundle.rootfs / "etc/ld.so.preload").write_text("/evil.so\n")
    bundle.config["process"]["env"] += [f"LD_PRELOAD={library}", "LD_LIBRARY_PATH=/lib", f"LD_AUDIT={library}", f"PYTHONPATH={library.parent}"]
    start(bundle, "sleep", "100")
    assert bundle.verb("exec", "--env", f"LD_PRELOAD={library}", bundle.id, "true").returncode == 0
    assert (mark.exists(), inside.exists()) == (False, False)


def test_joining_process_is_neither_traced_nor_read(bundle: Bundle, hostile: Path) -> None:
    grant(bundle)
    install(bundle, hostile)
    assert attacked(bundle) == {"watching", "seen"}


def test_joining_process_of_a_user_namespace_is_neither_traced_nor_read(bundle: Bundle, hostile: Path) -> None:
    """In a user namespace of its own, a container may have CAP_SYS_PTRACE and still gets nothing of what joins."""
    grant(bundle, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN")
    install(bundle, hostile)
    mapping = [{"containerID": 0, "hostID": 700000, "size": 65536}]
    bundle.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    for parent in [bundle.directory, *bundle.directory.parents[:-2]]:
        parent.chmod(parent.stat().st_mode | 0o011)
    (bundle.rootfs / "tmp").chmod(0o777)
    assert attacked(bundle) == {"watching", "seen"}


def attacked(bundle: Bundle) -> set[str]:
    """The kinds of event in the watcher's report over 20 execs."""
    log = bundle.rootfs / "tmp/log"
    start(bundle, "hostile", "watch", "/tmp/log")
    eventually(log.exists, "the watcher does not run")
    for _ in range(20):
        assert bundle.verb("exec", bundle.id, "true").returncode in (0, 137)
    return {line.split()[0] for line in log.read_text().splitlines()}

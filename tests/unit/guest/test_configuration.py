"""Fragments of a kernel's configuration, and what a build tells of itself."""

from __future__ import annotations

import io
from pathlib import Path

from casemate.guest import configuration
from casemate.guest.progress import Progress

# What a guest cannot do without: its first process, the ways to the host, and the walls between its programs.
NEEDED = """
BINFMT_ELF BLK_DEV_INITRD DEVTMPFS PROC_FS SYSFS TMPFS UNIX98_PTYS CGROUPS MEMCG CGROUP_PIDS SECCOMP_FILTER USER_NS PID_NS NET_NS IPC_NS UTS_NS
VIRTIO_MMIO VIRTIO_MMIO_CMDLINE_DEVICES VIRTIO_PCI VIRTIO_CONSOLE VIRTIO_BLK VIRTIO_NET VIRTIO_VSOCKETS VIRTIO_FS VIRTIO_BALLOON VIRTIO_PMEM NET_9P_VIRTIO
HW_RANDOM_VIRTIO VMGENID PVH KVM_GUEST SERIAL_8250_CONSOLE OVERLAY_FS EROFS_FS EXT4_FS
""".split()
# What costs boot time, room or a wall, and must not come back by a line that somebody adds.
UNWANTED = "MODULES KALLSYMS FTRACE JUMP_LABEL LEGACY_PTYS DEVMEM KEXEC".split()


def test_ours_has_what_guests_need_and_nothing_else_of_weight() -> None:
    options = configuration.merged([configuration.FRAGMENT])
    assert [name for name in NEEDED if options.get(f"CONFIG_{name}") != "y"] == []
    assert [name for name in UNWANTED if options.get(f"CONFIG_{name}", "n") != "n"] == []


def test_no_option_is_named_twice() -> None:
    lines = [line for line in Path(configuration.FRAGMENT).read_text().splitlines() if line.startswith("CONFIG_")]
    names = [line.partition("=")[0] for line in lines]
    assert sorted(names) == sorted(set(names))


def test_a_later_fragment_changes_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("CONFIG_SMP=y\nCONFIG_NR_CPUS=32\n# a remark\n")
    (tmp_path / "b").write_text('# CONFIG_SMP is not set\nCONFIG_TEXT="a=b"\n')
    options = configuration.merged([str(tmp_path / "a"), str(tmp_path / "b")])
    assert configuration.rendered(options) == 'CONFIG_NR_CPUS=32\n# CONFIG_SMP is not set\nCONFIG_TEXT="a=b"\n'


def test_lost_lines_are_those_with_another_value() -> None:
    wanted = {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": "32"}
    assert configuration.lost(wanted, {"CONFIG_A": "y", "CONFIG_C": "64"}) == ["CONFIG_C is 64, not 32"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(out: io.StringIO, before: int) -> str:
    now = [0.0]
    progress = Progress(out, before, lambda: now[0])
    for line in ("make: Entering directory", "  CC      kernel/fork.o", "  HOSTCC  scripts/basic/fixdep", "  AR      vmlinux.a"):
        now[0] += 31
        progress.hear(line)
    progress.end()
    return out.getvalue()


def test_a_log_gets_lines_and_a_terminal_one_that_changes() -> None:
    assert told(io.StringIO(), 0).splitlines() == [
        "casemate: 1 files in 1 min 2 s: kernel", "casemate: 2 files in 1 min 33 s: scripts/basic", "casemate: 3 files in 2 min 4 s: ."
    ]  # fmt: skip
    shown = told(Terminal(), 3)
    assert "\rcasemate: 2 of 3 files in 1 min 33 s: scripts/basic\x1b[K" in shown
    assert "\n" not in shown
    assert shown.endswith("\r\x1b[K")

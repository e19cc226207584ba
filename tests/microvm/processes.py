"""The processes of a machine, and what the kernel says that each may do on the host."""

from __future__ import annotations

from pathlib import Path

from casemate.host import process
from casemate.hypervisor.user import _COUNT, _FIRST

# Of the server of files, for the ids of the container: each with its reason in isolation/microvm.py.
FILE_SERVER = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 27 | 1 << 31
LENT = range(0x7000_0000, 0x7F00_0000)
DRAWN = range(_FIRST, _FIRST + _COUNT)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")


def tree(pid: int) -> list[int]:
    """A process and those that it or they have started; those that ended meanwhile are left out."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return [each for each in found if process.state(each) not in ("", "Z", "X")]


def check(relay: int, users: range, root: int) -> set[str]:
    """Each process of the machine is confined. What was seen."""
    seen, others = set(), set()
    for pid in tree(relay):
        name, facts = command(pid), status(pid)
        uid, capabilities = {int(word) for word in facts["Uid"].split()}, int(facts["CapEff"], 16)
        assert (facts["NoNewPrivs"], facts["Seccomp"], facts["CapAmb"].strip("0")) == ("1", "2", ""), name
        seen.add(name)
        if name.endswith("virtiofsd"):
            assert uid == {root}
            assert capabilities == int(facts["CapPrm"], 16) == FILE_SERVER & capabilities
            continue
        assert (capabilities, int(facts["CapPrm"], 16), int(facts["CapBnd"], 16)) == (0, 0, 0), name
        others |= uid
    assert len(others) == 1
    assert others.pop() in users
    assert Path(f"/proc/{relay}/environ").stat().st_uid == 0, "the relay can be traced by the hypervisor's user"
    return seen

"""The filters of the monitor's threads: on each of them, nothing missing (all other tests here run with them), nothing superfluous."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microvm.monitor import ROOT, Monitor, engine
from microvm.test_fork import Start

# Tests that together make every call that a rule allows. Each new rule needs one here, or says why there is none.
WORKLOAD = """test_vmm.py::test_configuration_file_without_api
test_vmm.py::test_block_reads_writes_flushes_and_refuses[Async]
test_vmm.py::test_block_reads_writes_flushes_and_refuses[Sync]
test_vmm.py::test_block_keeps_to_its_limit_until_it_is_patched[Sync]
test_vmm.py::test_entropy_fills_buffers
test_vmm.py::test_vsock_host_connects_to_the_guest
test_vmm.py::test_vsock_guest_connects_to_the_host
test_vmm.py::test_balloon_gives_memory_back
test_vmm.py::test_ctrl_alt_del
test_vmm.py::test_a_terminal_is_raw_while_the_guest_runs
test_net.py::test_frames_of_all_sizes_come_back_as_they_were
test_net.py::test_metadata_of_a_megabyte
test_memory.py::test_pmem_is_read_and_written_as_memory
test_memory.py::test_memory_is_plugged_and_unplugged
test_snapshot.py::test_a_copy_of_a_copy
test_snapshot.py::test_diffs_of_a_tracked_machine_hold_what_changed_since_the_last
test_snapshot.py::test_pages_served_by_another_process
test_snapshot.py::test_sockets_work_in_a_copy
test_fork.py::test_children_go_on_with_identities_of_their_own""".split()


def own_filters() -> dict[str, Any]:
    printed = subprocess.run([str(engine()), "vmm", "--print-seccomp-filter"], capture_output=True, check=True, timeout=20).stdout
    filters = json.loads(printed)
    assert isinstance(filters, dict)
    return filters


def threads(pid: int) -> dict[str, tuple[str, str]]:
    """By name, KVM's own left out: the mode of seccomp, and how many filters."""
    found: dict[str, tuple[str, str]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has ended: KVM's come and go.
        said = dict(re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE))
        if not said["Name"].startswith("kvm-"):
            found[said["Name"]] = (said["Seccomp"], said["Seccomp_filters"])
    return found


def test_each_thread_has_its_filter(start: Start, guest: Path) -> None:
    monitor = start()
    # Its socket is there a moment before; what is answered is read with the filter.
    monitor.ok("GET", "/")
    assert threads(monitor.process.pid)["casemate-engine"] == ("2", "1")
    monitor.boot(guest, "test=count")
    monitor.read_until("1\n")
    assert threads(monitor.process.pid) == {"casemate-engine": ("2", "1"), "vcpu0": ("2", "2")}


def test_without_filters(start: Start, guest: Path) -> None:
    monitor = start("--no-seccomp")
    monitor.boot(guest, "test=count")
    monitor.read_until("1\n")
    assert threads(monitor.process.pid) == {"casemate-engine": ("0", "0"), "vcpu0": ("0", "0")}


def test_a_users_filter_takes_the_place_of_ours(start: Start, guest: Path, tmp_path: Path) -> None:
    filters = own_filters()
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    # The guest's writes are what this virtual CPU may not make.
    filters["vcpu"]["filter"] = [rule for rule in filters["vcpu"]["filter"] if rule["syscall"] != "pwrite64"]
    (tmp_path / "filter.json").write_text(json.dumps(filters))
    monitor = start("--seccomp-filter", str(tmp_path / "filter.json"))
    monitor.ok("PUT", "/drives/d", {"drive_id": "d", "path_on_host": str(disk), "is_root_device": False, "is_read_only": False})
    monitor.boot(guest, "test=block")
    _, errors = monitor.process.communicate(timeout=20)
    # pwrite64(2) is number 18.
    assert b"the seccomp filter refused system call 18, second argument" in errors
    assert monitor.process.returncode == 148


def read_only_if(**check: Any) -> dict[str, Any]:
    return {"syscall": "read", "args": [{"index": 2, "type": "qword", "op": "eq", "val": 1} | check]}


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Any:
    return pytest.param(change, name, id=name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        changed("no system call", lambda filters: filters["vcpu"]["filter"][0].update(syscall="no_such_call")),
        changed("vcpu: missing", lambda filters: filters.pop("vcpu")),
        changed("there are the threads", lambda filters: filters.update(gpu=filters["vcpu"])),
        changed("are the same", lambda filters: filters["vmm"].update(default_action="allow")),
        changed("have to be the same", lambda filters: filters.update(api=filters["vmm"] | {"default_action": "kill_process"})),
        changed("at most 5", lambda filters: filters["vmm"]["filter"].append(read_only_if(index=6))),
        changed("compare the qword", lambda filters: filters["vmm"]["filter"].append(read_only_if(type="dword", op="gt"))),
        changed("unknown field", lambda filters: filters["vmm"].update(color=1)),
        changed("unknown variant", lambda filters: filters["vmm"].update(default_action="explode")),
    ],
)
def test_wrong_filters_are_refused(change: Callable[[dict[str, Any]], object], text: str, tmp_path: Path) -> None:
    filters = own_filters()
    change(filters)
    (tmp_path / "filter.json").write_text(json.dumps(filters))
    assert text in refusal(tmp_path / "filter.json")


def test_a_compiled_filter_and_none_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "filter.bpf").write_bytes(b"\x03\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0api")
    assert "a compiled filter" in refusal(tmp_path / "filter.bpf")
    assert "No such file" in refusal(tmp_path / "none")


def refusal(path: Path) -> str:
    words = [str(engine()), "vmm", "--api-sock", f"{path}.socket", "--seccomp-filter", str(path)]
    ended = subprocess.run(words, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 2
    return ended.stderr.decode()


def test_firecrackers_three_threads_are_taken(start: Start, guest: Path, tmp_path: Path) -> None:
    filters = own_filters()
    every = filters["vmm"]["filter"]
    filters["api"] = filters["vmm"] | {"filter": every[::2]}
    filters["vmm"] = filters["vmm"] | {"filter": every[1::2]}
    (tmp_path / "filter.json").write_text(json.dumps(filters))
    monitor = start("--seccomp-filter", str(tmp_path / "filter.json"))
    monitor.boot(guest, "test=hello")
    assert monitor.finish() == "hello\n"


# 12345<vcpu0> ioctl(0xb, 0xae80, 0) = 0, or `<unfinished ...>` behind the arguments.
_CALL = re.compile(r"^(\d+)<([^>]*)> (\w+)\(([^)<]*)")


def calls(trace: Path) -> Iterator[tuple[str, str, list[int]]]:
    """What was called under which filter: (`vcpu` or `vmm`, call, arguments)."""
    is_open: set[str] = set()
    is_vcpu: set[str] = set()
    seen: set[str] = set()
    for line in trace.read_text(errors="replace").splitlines():
        if not (found := _CALL.match(line)):
            continue
        thread, name, call, arguments = found.groups()
        # The program's first thread, and the one that starts before the filter.
        if call == "execve" or (name == "prepare" and thread not in seen):
            is_open.add(thread)
        seen.add(thread)
        if thread not in is_open:
            words = [word.strip() for word in arguments.split(",") if word.strip()]
            yield ("vcpu" if thread in is_vcpu else "vmm"), call, [int(word, 0) for word in words]
        if call == "seccomp":
            is_open.discard(thread)
            if name.startswith("vcpu"):
                is_vcpu.add(thread)


def allows(rule: dict[str, Any], arguments: list[int]) -> bool:
    for check in rule.get("args", []):
        mask = check["op"]["masked_eq"] if isinstance(check["op"], dict) else 0xFFFFFFFF
        if arguments[check["index"]] & mask != check["val"]:
            return False
    return True


def key(rule: dict[str, Any]) -> str:
    return json.dumps([rule["syscall"], rule.get("args", [])])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.timeout(600)
def test_no_rule_is_superfluous() -> None:
    # A short path: a socket's name has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="rules") as folder:
        made = traced(Path(folder))
    by_call: dict[tuple[str, str], list[list[int]]] = {}
    for kind, call, *arguments in made:
        by_call.setdefault((kind, call), []).append(arguments)
    filters = own_filters()
    shared = {key(rule) for rule in filters["vcpu"]["filter"]}
    superfluous = [
        (kind, rule["syscall"], rule["comment"])
        for kind in ("vcpu", "vmm")
        for rule in filters[kind]["filter"]
        # A thread starts with its maker's filter, so the first one's holds the other's rules.
        if "untested" not in rule and (kind == "vcpu" or key(rule) not in shared)
        if not any(allows(rule, arguments) for arguments in by_call.get((kind, rule["syscall"]), []))
    ]
    assert not superfluous, "\n".join(map(str, superfluous))


# The first process of a namespace: what a killed or failed test leaves ends with it, tracers and what they trace; else it has waited for all of them.
INIT = """
import contextlib, os, subprocess, sys
code = subprocess.call(sys.argv[1:])
with contextlib.suppress(ChildProcessError):
    while code == 0 and os.wait():
        pass
sys.exit(code)
"""


def traced(folder: Path) -> set[tuple[Any, ...]]:
    """Every different call of the workload, under the filter that it is made under."""
    wrapper = folder / "engine"
    wrapper.write_text(f'#!/bin/sh\nexec strace -D -f -Y -qq -e raw=all -e signal=none -o {folder}/trace.$$ {engine()} "$@"\n')
    wrapper.chmod(0o755)
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", INIT]
    words += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/t"]
    chosen = [f"tests/microvm/{test}" for test in WORKLOAD]
    ended = subprocess.run([*words, *chosen], cwd=ROOT, env=os.environ | {"CASEMATE_ENGINE": str(wrapper)}, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout.decode()
    return {(kind, call, *arguments) for trace in folder.glob("trace.*") for kind, call, arguments in calls(trace)}


def test_each_rule_has_a_reason() -> None:
    for thread in own_filters().values():
        assert all(len(rule["comment"]) > 3 for rule in thread["filter"])


def test_the_monitor_can_still_be_stopped_and_go_on(monitor: Monitor, guest: Path) -> None:
    monitor.boot(guest, "test=count")
    monitor.read_until("1\n")
    os.kill(monitor.process.pid, 19)
    os.kill(monitor.process.pid, 18)
    assert monitor.ok("GET", "/")["state"] == "Running"

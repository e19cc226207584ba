"""Fake hosts: mount tables and directories as three kinds of real ones have them, below a temporary directory."""

from __future__ import annotations

from pathlib import Path

from casemate.host.cgroup import Manager, open_manager

_V1 = ["cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"]


class Host:
    """mode: v1, v2 or hybrid. `open` finds the container's cgroup as on a real host of this mode."""

    def __init__(self, base: Path, mode: str, *, own: str = "/", shown: str = "/") -> None:
        self.root = base / "cgroup"
        self.root.mkdir()
        mounts = [f"22 1 0:20 / /proc rw,nosuid - proc proc rw\n23 1 0:28 / {self.root} rw - tmpfs tmpfs rw,mode=755"]
        members = []
        if mode in ("v1", "hybrid"):
            for number, options in enumerate(_V1, 30):
                directory = self.root / options.removeprefix("name=")
                directory.mkdir()
                mounts.append(f"{number} 23 0:{number} {shown} {directory} rw,relatime shared:9 - cgroup cgroup rw,{options}")
                members.append(f"{number}:{options}:{own}")
            for name in ("cpus", "mems"):
                (self.root / "cpuset" / f"cpuset.{name}").write_text("0-1\n" if name == "cpus" else "0\n")
        if mode in ("v2", "hybrid"):
            self.unified = self.root if mode == "v2" else self.root / "unified"
            self.unified.mkdir(exist_ok=True)
            mounts.append(f"60 23 0:60 {shown} {self.unified} rw - cgroup2 cgroup2 rw,nsdelegate")
            members.append(f"0::{own}")
            (self.unified / "cgroup.controllers").write_text("cpuset cpu io memory pids\n" if mode == "v2" else "hugetlb\n")
            (self.unified / "cgroup.subtree_control").write_text("")
        self.mountinfo = base / "mountinfo"
        self.mountinfo.write_text("\n".join(mounts) + "\n")
        self.self_cgroup = base / "self_cgroup"
        self.self_cgroup.write_text("\n".join(members) + "\n")

    def open(self, path: str | None, *, rootless: bool = False, systemd: bool = False) -> Manager:
        return open_manager(
            path, "box", systemd=systemd, rootless=rootless, root=str(self.root), mountinfo=str(self.mountinfo),
            self_cgroup=str(self.self_cgroup),
        )  # fmt: skip

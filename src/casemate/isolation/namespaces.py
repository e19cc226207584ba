"""The `namespaces` isolation: the host's kernel, seen through namespaces, cgroups and a jail."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from casemate import wire
from casemate.isolation.base import Handlers, Isolation, Launch, Verdict
from casemate.isolation.engine_process import follow_start, launch_engine

_OLDEST_KERNEL = (5, 12)  # mount_setattr(2), which the engine builds every mount with


class Namespaces(Isolation):
    """Processes of the host, walled by the host's own kernel."""

    name = "namespaces"
    oldest_kernel = _OLDEST_KERNEL
    needs = "mount_setattr(2)"
    starts_at_once = True

    def probe(self) -> Verdict:
        release = os.uname().release
        parts = release.split(".")
        try:
            version = int(parts[0]), int("".join(c for c in parts[1] if c.isdigit()) or 0)
        except (ValueError, IndexError):
            return Verdict(True)
        if version < self.oldest_kernel:
            return Verdict(False, f"Linux {release} has no {self.needs}", "use Linux {}.{} or newer".format(*self.oldest_kernel))
        return Verdict(True)

    def create(self, launch: Launch) -> int:
        return launch_engine(launch)

    def start(self, channel_path: str, handlers: Handlers, pid: int) -> None:
        channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            channel.connect(channel_path)
            wire.send(channel, {"command": "start"})
            follow_start(channel, handlers)
        finally:
            channel.close()

    def exec(self, launch: Launch, channel_path: str) -> int:
        return launch_engine(launch)

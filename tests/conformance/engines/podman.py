"""podman, which has no daemon: a configuration of its own instead."""

from __future__ import annotations

import os

from .case import IMAGE
from .docker import DockerCommands
from .image import PATH


class Podman(DockerCommands):
    """With a bridge of its own, whose addresses nobody else should have: 198.18.0.0/15 is for tests (RFC 2544)."""

    name = "podman"
    network = f"conformance{os.getpid()}"
    network_with_names = f"names{os.getpid()}"
    programs = ("podman", "conmon")
    removal = ("rm", "--force", "--time", "0")

    def start_engine(self) -> None:
        configuration = self.directory / "containers.conf"
        # Its default limits are above what a machine without CAP_SYS_RESOURCE may set; locks in a file, so that it shares none.
        configuration.write_text(
            f"""\
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
events_logger = "file"
lock_type = "file"
tmp_dir = "{self.directory}/tmp"
[network]
network_config_dir = "{self.directory}/networks"
"""
        )
        self.environment["CONTAINERS_CONF"] = str(configuration)
        directories = ["--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run", "--storage-driver", "overlay"]
        self.client = ["podman", *directories, "--cgroup-manager", "cgroupfs"]
        third = os.getpid() % 250
        subnets = ("--subnet", f"198.18.{third}.0/24", "--ipv6", "--subnet", f"fd00:198:18:{third}::/64")
        self.command("network", "create", "--disable-dns", *subnets, self.network).expect()
        self.command("network", "create", "--subnet", f"198.19.{third}.0/24", self.network_with_names).expect()
        self.command("import", "--change", f"ENV PATH={PATH}", str(self.layer), IMAGE).expect()

    def stop_engine(self) -> None:
        if hasattr(self, "client"):
            self.command("rm", "--all", "--force", "--time", "0")
            self.command("network", "rm", "--force", self.network, self.network_with_names)

    def run_with(self, runtime: str) -> list[str]:
        return ["--runtime", self.runtimes[runtime], "run", "--cgroup-parent", f"/{self.cgroup}"]

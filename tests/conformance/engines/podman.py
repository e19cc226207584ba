"""podman, which has no daemon: a configuration of its own instead."""

from __future__ import annotations

from .case import IMAGE
from .docker import DockerCommands
from .image import PATH


class Podman(DockerCommands):
    name = "podman"
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
"""
        )
        self.environment["CONTAINERS_CONF"] = str(configuration)
        directories = ["--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run", "--storage-driver", "overlay"]
        self.client = ["podman", *directories, "--cgroup-manager", "cgroupfs"]
        self.command("import", "--change", f"ENV PATH={PATH}", str(self.layer), IMAGE).expect()

    def stop_engine(self) -> None:
        if hasattr(self, "client"):
            self.command("rm", "--all", "--force", "--time", "0")

    def run_with(self, runtime: str) -> list[str]:
        return ["--runtime", self.runtimes[runtime], "run", "--cgroup-parent", f"/{self.cgroup}"]

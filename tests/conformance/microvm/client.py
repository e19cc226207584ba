"""A machine with a disk and a vsock, made by PyPI's client for Firecracker: `client.py SOCKET KERNEL DISK VSOCK`.

Prints one JSON line per step: its name, and why it failed or nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from firecracker.api import Api
from firecracker.exceptions import APIError


def main() -> None:
    path, kernel, disk, vsock = sys.argv[1:]
    api = Api(path)
    drive = {"drive_id": "rootfs", "path_on_host": disk, "is_root_device": True, "is_read_only": False}
    steps: list[tuple[str, Callable[[], object]]] = [
        ("describe", lambda: api.describe.get().json()["state"] == "Not started"),
        ("version", lambda: api.version.get().json()["firecracker_version"]),
        ("boot source", lambda: api.boot.put(kernel_image_path=kernel, boot_args="console=ttyS0")),
        ("machine config", lambda: api.machine_config.put(vcpu_count=1, mem_size_mib=128)),
        ("disk", lambda: api.drive.put(**drive)),
        ("vsock", lambda: api.vsock.put(guest_cid=3, uds_path=vsock)),
        ("start", lambda: api.actions.put(action_type="InstanceStart")),
        ("is running", lambda: api.describe.get().json()["state"] == "Running"),
        ("configuration", lambda: api.vm_config.get().json()["drives"][0]["path_on_host"] == disk),
        ("pause", lambda: api.vm.patch(state="Paused")),
        ("resume", lambda: api.vm.patch(state="Resumed")),
        ("Ctrl+Alt+Del", lambda: api.actions.put(action_type="SendCtrlAltDel")),
    ]
    for name, step in steps:
        try:
            why = "" if step() else "another answer than expected"
        except APIError as error:
            why = str(error)
        print(json.dumps({"name": name, "why": why}), flush=True)


if __name__ == "__main__":
    main()

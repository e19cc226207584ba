"""The image of every case: busybox with its applets as links, in the forms that engines import. Made here, so no network."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/usr/bin/busybox")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1234:guest:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\nguest:x:1234:\n",
    "etc/not-executable": "text\n",
}
DIRECTORIES = ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "volume"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def root_file_system(archive: Path) -> None:
    """Writes the root file system as a tar archive: for `podman import` and `docker import`."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(archive, "w") as tar:
        for directory in DIRECTORIES:
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        for path, text in FILES.items():
            add(tar, path, text.encode(), 0o644)
        add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)


def oci_archive(layer: Path, archive: Path, name: str) -> None:
    """Writes an OCI image layout with that one layer: for `ctr images import`."""
    blobs: dict[str, bytes] = {}

    def blob(media_type: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    def document(media_type: str, content: dict[str, object]) -> dict[str, object]:
        return blob(media_type, json.dumps(content).encode())

    stored = blob("layer.v1.tar", layer.read_bytes())
    configuration = document(
        "config.v1+json",
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [stored["digest"]]},
        },
    )
    manifest = document("manifest.v1+json", {"schemaVersion": 2, "config": configuration, "layers": [stored]})
    index = {"schemaVersion": 2, "manifests": [manifest | {"annotations": {"io.containerd.image.name": name}}]}
    with tarfile.open(archive, "w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        add(tar, "index.json", json.dumps(index).encode(), 0o644)
        for path, data in blobs.items():
            add(tar, path, data, 0o644)


def add(tar: tarfile.TarFile, path: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))

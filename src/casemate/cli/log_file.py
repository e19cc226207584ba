"""The file of `--log`: one record per error, in runc's two formats, which containerd and podman read."""

from __future__ import annotations

import os
import time

from casemate import jsonlite


def append_error(path: str, log_format: str, message: str) -> None:
    """Appends a record; a log that cannot be written is no further error."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if log_format == "json":
        line = jsonlite.dumps({"level": "error", "msg": message, "time": stamp})
    else:
        line = f"time={jsonlite.dumps(stamp)} level=error msg={jsonlite.dumps(message)}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        os.write(fd, (line + "\n").encode())
    except OSError:
        pass
    finally:
        os.close(fd)

"""Where kernels and initial file systems are kept: read-only for machines, whose hypervisors run as ids that are nobody's on the host."""

from __future__ import annotations

import os

from casemate.errors import HostError

_REMEDY = "set HOME, XDG_DATA_HOME or CASEMATE_GUEST to a directory that can be written"
# What the root of a hypervisor's jail holds: mount points, and the links of a merged /usr.
_JAIL_DIRECTORIES = ("dev", "guest", "proc", "run", "share", "sys", "tmp", "usr", "var")
_JAIL_LINKS = (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin"), ("var/run", "../run"))


def directory() -> str:
    """The store: /var/lib/casemate/guest for root, below XDG_DATA_HOME for everybody else; CASEMATE_GUEST names another."""
    given = os.environ.get("CASEMATE_GUEST")
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/var/lib/casemate/guest"
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(_home(), ".local/share")
    return os.path.join(data, "casemate/guest")


def _home() -> str:
    """As a login would set HOME, where nobody did; Debian's word for none, which `prepare` cannot make, if this user has none."""
    given = os.environ.get("HOME")
    if given:
        return given
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"


def prepare() -> str:
    """Makes the store, and returns its path. Raises HostError."""
    path = directory()
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    except OSError as error:
        raise HostError(f"the place for what virtual machines start from, {path}, cannot be made: {error.strerror}", _REMEDY) from error
    return path


def jail() -> str:
    """The directory that a hypervisor's root is made over; made at first use."""
    path = f"{prepare()}/jail"
    if os.path.lexists(f"{path}/{_JAIL_LINKS[-1][0]}"):
        return path
    for name in _JAIL_DIRECTORIES:
        os.makedirs(f"{path}/{name}", 0o755, exist_ok=True)
    for name, target in _JAIL_LINKS:
        try:
            os.symlink(target, f"{path}/{name}")
        except FileExistsError:
            pass
    return path

"""The mount options of the specification as flags. Source: config.md "Linux mount options", mount(2), mount_setattr(2)."""

from __future__ import annotations

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC = 1, 2, 4, 8, 16, 32, 64, 128
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_SILENT = 256, 1024, 2048, 4096, 16384, 32768
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25

SET = {
    "acl": 1 << 16, "async": 0, "atime": 0, "bind": MS_BIND, "defaults": 0, "dev": 0, "diratime": 0, "dirsync": MS_DIRSYNC, "exec": 0, "iversion": 1 << 23,
    "lazytime": MS_LAZYTIME, "loud": 0, "mand": MS_MANDLOCK, "noatime": MS_NOATIME, "nodev": MS_NODEV, "nodiratime": MS_NODIRATIME,
    "noexec": MS_NOEXEC, "nosuid": MS_NOSUID, "nosymfollow": MS_NOSYMFOLLOW, "rbind": MS_BIND | MS_REC, "relatime": MS_RELATIME, "remount": MS_REMOUNT,
    "ro": MS_RDONLY, "rw": 0, "silent": MS_SILENT, "strictatime": MS_STRICTATIME, "suid": 0, "symfollow": 0, "sync": MS_SYNCHRONOUS,
}  # fmt: skip
CLEAR = {
    "async": MS_SYNCHRONOUS, "atime": MS_NOATIME, "dev": MS_NODEV, "diratime": MS_NODIRATIME, "exec": MS_NOEXEC, "loud": MS_SILENT, "noacl": 1 << 16,
    "noiversion": 1 << 23, "nolazytime": MS_LAZYTIME, "nomand": MS_MANDLOCK, "norelatime": MS_RELATIME, "nostrictatime": MS_STRICTATIME, "rw": MS_RDONLY,
    "suid": MS_NOSUID, "symfollow": MS_NOSYMFOLLOW,
}  # fmt: skip
PROPAGATION = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC, "rshared": MS_SHARED | MS_REC, "rslave": MS_SLAVE | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC, "shared": MS_SHARED, "slave": MS_SLAVE, "unbindable": MS_UNBINDABLE,
}  # fmt: skip
_ATIME = 0x70
# Recursive attributes: (set, clear) of mount_setattr(2) with AT_RECURSIVE.
RECURSIVE = {
    "ratime": (0, _ATIME), "rdev": (0, 4), "rdiratime": (0, 0x80), "rexec": (0, 8), "rnoatime": (0x10, _ATIME), "rnodev": (4, 0),
    "rnodiratime": (0x80, 0), "rnoexec": (8, 0), "rnorelatime": (0x20, _ATIME), "rnostrictatime": (0, _ATIME), "rnosuid": (2, 0),
    "rnosymfollow": (0x200000, 0), "rrelatime": (0, _ATIME), "rro": (1, 0), "rrw": (0, 1), "rstrictatime": (0x20, _ATIME), "rsuid": (0, 2),
    "rsymfollow": (0, 0x200000),
}  # fmt: skip
EXTENSIONS = ("copy-symlink", "idmap", "ridmap", "tmpcopyup")

ALL = tuple(sorted({*SET, *CLEAR, *PROPAGATION, *RECURSIVE, *EXTENSIONS}))


class Options:
    """A mount's options, read."""

    __slots__ = ("data", "flags", "idmap", "propagation", "recursive_clear", "recursive_set", "tmpcopyup")

    def __init__(self, options: list[str]) -> None:
        self.flags = 0
        self.propagation: list[int] = []
        self.data: list[str] = []
        self.recursive_set = 0
        self.recursive_clear = 0
        self.tmpcopyup = False
        self.idmap = ""
        for option in options:
            self._read(option)

    def _read(self, option: str) -> None:
        if option in SET or option in CLEAR:
            self.flags = self.flags & ~CLEAR.get(option, 0) | SET.get(option, 0)
        elif option in PROPAGATION:
            self.propagation.append(PROPAGATION[option])
        elif option in RECURSIVE:
            on, off = RECURSIVE[option]
            self.recursive_set = self.recursive_set & ~off | on
            self.recursive_clear = self.recursive_clear & ~on | off
        elif option == "tmpcopyup":
            self.tmpcopyup = True
        elif option in ("idmap", "ridmap"):
            self.idmap = option
        elif option:
            self.data.append(option)

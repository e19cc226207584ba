"""What of the host's root a sandbox does not see, and why."""

from __future__ import annotations

# Directories: an empty one instead.
DIRECTORIES = (
    ("/root", "the administrator's files, keys and tokens"),
    ("/home", "other users' files"),
    ("/run", "sockets of the host's services: docker.sock and the like are root"),
    ("/tmp", "other programs' files and sockets"),
    ("/var/tmp", "other programs' files"),
    ("/mnt", "mounted disks"),
    ("/media", "mounted disks"),
    ("/srv", "served data"),
    ("/boot", "the kernel's image and its addresses"),
    ("/lost+found", "recovered files"),
    ("/var/lib", "services' data: databases, images, machine identities"),
    ("/var/log", "logs"),
    ("/var/spool", "mail and jobs"),
    ("/var/cache", "services' data"),
    ("/var/backups", "copies of /etc"),
    ("/etc/ssh", "host keys"),
    ("/etc/ssl/private", "private keys"),
    ("/etc/casemate", "our own configuration"),
    ("/etc/docker", "registries' credentials"),
    ("/etc/kubernetes", "cluster credentials"),
)
# Files: /dev/null instead. The user's ids could not read them anyway; the next layer.
FILES = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/krb5.keytab", "/etc/machine-id")
# Of /proc and /sys.
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/config.gz", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kmsg",
    "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/modules", "/proc/sched_debug", "/proc/scsi", "/proc/slabinfo",
    "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo", "/sys/firmware", "/sys/kernel", "/sys/devices/virtual/powercap",
    "/sys/module", "/sys/fs",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys")

"""config.json as runtime-spec 1.2.1 (and 1.3 where it adds fields) defines it: names, types, ranges, allowed values. Source: config.md, config-linux.md."""

from __future__ import annotations

from casemate.oci.checks import I64, U32, U64, anything, boolean, fields, integer, items, mapping, text

NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
SECCOMP_ACTIONS = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
SECCOMP_ARCHES = tuple(
    "SCMP_ARCH_" + name
    for name in [
        "X86",
        "X86_64",
        "X32",
        "ARM",
        "AARCH64",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "LOONGARCH64",
        "M68K",
        "SH",
        "SHEB",
    ]
)
SECCOMP_OPS = tuple("SCMP_CMP_" + name for name in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
SECCOMP_FLAGS = tuple("SECCOMP_FILTER_FLAG_" + name for name in ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"])
CAPABILITIES = tuple(
    "CAP_" + name
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)
RLIMITS = tuple(
    "RLIMIT_" + name
    for name in [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ]
)
SCHEDULER_POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1,
    "SCHED_FLAG_RECLAIM": 2,
    "SCHED_FLAG_DL_OVERRUN": 4,
    "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
PERSONALITIES = {"LINUX": 0, "LINUX32": 8}
PROPAGATIONS = ("shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable")
MEMORY_POLICIES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_POLICY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
MAX_HOSTNAME = 64


def _version(value: str) -> str:
    parts = value.split("-")[0].split("+")[0].split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        return "a version such as 1.2.1"
    return "" if parts[0] == "1" else "a version 1.x: this is a runtime for version 1 of the specification"


def _environment(value: str) -> str:
    return "" if "=" in value and not value.startswith("=") else "NAME=VALUE"


def _hostname(value: str) -> str:
    return "" if len(value.encode()) <= MAX_HOSTNAME else f"at most {MAX_HOSTNAME} bytes (Linux's limit)"


def _sysctl_value() -> object:
    return text()


_i64, _u64, _u32 = integer(*I64), integer(*U64), integer(*U32)
_u16 = integer(0, 65535)
# Linux's dev_t: mknod(2) cuts what is larger, which would be another device.
_major, _minor = integer(0, (1 << 12) - 1), integer(0, (1 << 20) - 1)
_path = text(absolute=True)
_names = items(text(least=1))
_capabilities = items(text(allowed=CAPABILITIES))
_id_mapping = items(fields("containerID hostID size", containerID=_u32, hostID=_u32, size=integer(1, U32[1])))
_hooks = items(fields("path", path=_path, args=items(text()), env=items(text(rule=_environment)), timeout=integer(1, U32[1])))
CAPABILITY_SETS = fields(bounding=_capabilities, effective=_capabilities, inheritable=_capabilities, permitted=_capabilities, ambient=_capabilities)

PROCESS = fields(
    "cwd args user",
    terminal=boolean(),
    consoleSize=fields("height width", height=_u16, width=_u16),
    cwd=_path,
    env=items(text(rule=_environment)),
    args=items(text(), least=1),
    commandLine=text(),
    rlimits=items(fields("type soft hard", type=text(allowed=RLIMITS), soft=_u64, hard=_u64)),
    apparmorProfile=text(),
    capabilities=CAPABILITY_SETS,
    noNewPrivileges=boolean(),
    oomScoreAdj=integer(-1000, 1000),
    scheduler=fields(
        "policy",
        policy=text(allowed=tuple(SCHEDULER_POLICIES)),
        nice=integer(-20, 19),
        priority=integer(0, 99),
        flags=items(text(allowed=tuple(SCHEDULER_FLAGS))),
        runtime=_u64,
        deadline=_u64,
        period=_u64,
    ),
    selinuxLabel=text(),
    ioPriority=fields("class", **{"class": text(allowed=tuple(IO_CLASSES)), "priority": integer(0, 7)}),
    execCPUAffinity=fields(initial=text(), final=text()),
    user=fields("uid gid", uid=_u32, gid=_u32, umask=integer(0, 0o777), additionalGids=items(_u32), username=text()),
)


def _device_access(value: str) -> str:
    return "" if set(value) <= set("rwm") else "letters of rwm"


_device_rule = fields("allow", allow=boolean(), type=text(allowed=("a", "b", "c", "")), major=_i64, minor=_i64, access=text(rule=_device_access))
_throttle = items(fields("major minor", major=_i64, minor=_i64, rate=_u64))
RESOURCES = fields(
    devices=items(_device_rule),
    memory=fields(
        limit=_i64,
        reservation=_i64,
        swap=_i64,
        kernel=_i64,
        kernelTCP=_i64,
        swappiness=integer(0, 100),
        disableOOMKiller=boolean(),
        useHierarchy=boolean(),
        checkBeforeUpdate=boolean(),
    ),
    cpu=fields(shares=_u64, quota=_i64, burst=_u64, period=_u64, realtimeRuntime=_i64, realtimePeriod=_u64, cpus=text(), mems=text(), idle=integer(0, 1)),
    pids=fields(limit=_i64),
    blockIO=fields(
        weight=_u16,
        leafWeight=_u16,
        weightDevice=items(fields("major minor", major=_i64, minor=_i64, weight=_u16, leafWeight=_u16)),
        throttleReadBpsDevice=_throttle,
        throttleWriteBpsDevice=_throttle,
        throttleReadIOPSDevice=_throttle,
        throttleWriteIOPSDevice=_throttle,
    ),
    hugepageLimits=items(fields("pageSize limit", pageSize=text(least=1), limit=_u64)),
    network=fields(classID=_u32, priorities=items(fields("name priority", name=text(least=1), priority=_u32))),
    rdma=mapping(fields(hcaHandles=_u32, hcaObjects=_u32)),
    unified=mapping(text()),
)
SECCOMP = fields(
    "defaultAction",
    defaultAction=text(allowed=SECCOMP_ACTIONS),
    defaultErrnoRet=integer(0, 4095),
    architectures=items(text(allowed=SECCOMP_ARCHES)),
    flags=items(text(allowed=SECCOMP_FLAGS)),
    listenerPath=text(),
    listenerMetadata=text(),
    syscalls=items(
        fields(
            "names action",
            names=items(text(least=1), least=1),
            action=text(allowed=SECCOMP_ACTIONS),
            errnoRet=integer(0, 4095),
            args=items(fields("index op", index=integer(0, 5), value=_u64, valueTwo=_u64, op=text(allowed=SECCOMP_OPS))),
        )
    ),
)
_offset = fields(secs=_i64, nanosecs=integer(0, 999_999_999))
LINUX = fields(
    uidMappings=_id_mapping,
    gidMappings=_id_mapping,
    namespaces=items(fields("type", type=text(allowed=NAMESPACE_TYPES), path=text())),
    timeOffsets=fields(monotonic=_offset, boottime=_offset),
    devices=items(fields("type path", type=text(allowed=("c", "b", "u", "p")), path=_path, major=_major, minor=_minor, fileMode=_u32, uid=_u32, gid=_u32)),
    netDevices=mapping(fields(name=text())),
    cgroupsPath=text(),
    resources=RESOURCES,
    intelRdt=fields(
        closID=text(),
        schemata=items(text()),
        l3CacheSchema=text(),
        memBwSchema=text(),
        enableCMT=boolean(),
        enableMBM=boolean(),
        enableMonitoring=boolean(),
    ),
    memoryPolicy=fields("mode", mode=text(allowed=tuple(MEMORY_POLICIES)), nodes=text(), flags=items(text(allowed=tuple(MEMORY_POLICY_FLAGS)))),
    sysctl=mapping(text()),
    seccomp=SECCOMP,
    rootfsPropagation=text(allowed=("", *PROPAGATIONS)),
    maskedPaths=items(_path),
    readonlyPaths=items(_path),
    mountLabel=text(),
    personality=fields("domain", domain=text(allowed=tuple(PERSONALITIES)), flags=items(text())),
)
CONFIG = fields(
    "ociVersion",
    ociVersion=text(rule=_version),
    root=fields("path", path=text(least=1), readonly=boolean()),
    mounts=items(
        fields("destination", destination=text(least=1), source=text(), type=text(), options=items(text()), uidMappings=_id_mapping, gidMappings=_id_mapping)
    ),
    process=PROCESS,
    hostname=text(rule=_hostname),
    domainname=text(rule=_hostname),
    hooks=fields(prestart=_hooks, createRuntime=_hooks, createContainer=_hooks, startContainer=_hooks, poststart=_hooks, poststop=_hooks),
    annotations=mapping(text()),
    linux=LINUX,
    solaris=anything(),
    windows=anything(),
    vm=anything(),
    zos=anything(),
    freebsd=anything(),
)

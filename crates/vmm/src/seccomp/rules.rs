//! The calls of the monitor's threads, each with its reason. `casemate-engine vmm --print-seccomp-filter` prints them.
//!
//! None of them executes a program, makes memory executable, leaves a namespace, traces or signals another process, or opens a socket of
//! another family than Unix.
use super::rule::{Rule, any, both, is, only, request, without};

const EXECUTABLE: u64 = libc::PROT_EXEC as u64;
const WAIT: u64 = 0x80; // FUTEX_WAIT, private
const WAKE: u64 = 0x81; // FUTEX_WAKE, private
const WAIT_UNTIL: u64 = 0x89; // FUTEX_WAIT_BITSET, private
const KICK: u64 = 35; // machine::vcpu

const NO_PANIC: &str = "only after a panic, which would be a bug";
const RACE: &str = "a client that comes in the instant in which the guest rings";
const LARGE: &str = "an allocation of more than 128 KiB at once";
const HOST: &str = "depends on the host";

/// A virtual CPU's. It runs the guest, and works the queues that the guest rings for.
pub(super) const VCPU: &[Rule] = &[
    request(0xae80, "KVM_RUN: the guest"),
    any("read", "events, timers, streams, the console"),
    any("write", "events, the serial line, streams, the log"),
    any("close", "descriptors"),
    any("pread64", "disks; a kernel that is loaded"),
    any("pwrite64", "disks; a snapshot's memory"),
    only("futex", is(1, WAKE), "locks"),
    only("futex", is(1, WAIT_UNTIL), "locks"),
    only("futex", is(1, WAIT), "locks of the C library")
        .unseen("where two threads want the allocator at one instant"),
    only(
        "mmap",
        without(2, EXECUTABLE),
        "the allocator, stacks, guest memory",
    )
    .unseen(LARGE),
    any("munmap", "the allocator, stacks, guest memory"),
    only(
        "mremap",
        is(3, 1),
        "large vectors that grow (MREMAP_MAYMOVE)",
    )
    .unseen(LARGE),
    only(
        "madvise",
        is(2, 4),
        "MADV_DONTNEED: what the balloon gave back, stacks of ended threads",
    ),
    any("sigaltstack", "a thread that starts or ends"),
    any("rt_sigprocmask", "a thread that starts or ends"),
    any("fdatasync", "flushes of disks and pmem, snapshots"),
    only(
        "socket",
        is(0, 1),
        "Unix sockets only: vsock's host side, the API, handlers of page faults",
    ),
    any("connect", "vsock's host side"),
    only("shutdown", is(1, 1), "half-closed streams (SHUT_WR)"),
    only(
        "accept4",
        is(3, 0x8_0000),
        "clients of sockets (SOCK_CLOEXEC)",
    )
    .unseen(RACE),
    request(0x5421, "FIONBIO: streams that nobody waits for").unseen(RACE),
    any("epoll_ctl", "streams"),
    any("epoll_pwait", "streams"),
    any("ppoll", "whether a stream takes or has something"),
    only("timerfd_settime", is(1, 0), "rate limiters"),
    any(
        "io_uring_enter",
        "drives with the engine Async; the ring's own files and memory only",
    ),
    only("recvfrom", is(3, 0), "streams"),
    only("sendto", is(3, 0x4000), "streams (MSG_NOSIGNAL)"),
    only(
        "getrandom",
        is(2, 0),
        "the entropy device, generation ids, tokens",
    ),
    request(
        0x4020_ae46,
        "KVM_SET_USER_MEMORY_REGION: guest memory; plugged memory",
    ),
    any("writev", "frames to a tap; serial output"),
    any(
        "rt_sigreturn",
        "the signal that takes a CPU out of its guest",
    ),
    any("getpid", "abort; the id of a forked child").unseen(NO_PANIC),
    only(
        "clock_gettime",
        without(0, 0xffff_fff0),
        "the boot timer's processor time; all times where the kernel's page has none",
    ),
    any("restart_syscall", "a wait that a stop or the freezer broke").unseen("after SIGCONT only"),
    any("sched_yield", "gives a device's lock to who waits for it")
        .unseen("a guest that fills a queue faster than it is emptied"),
    request(
        0x8090_ae81,
        "KVM_GET_REGS: where an instruction is that KVM cannot emulate",
    )
    .unseen("each machine would have ended by it"),
    any("exit_group", "the end after a refused call").unseen("each monitor would have ended by it"),
    any("exit", "a thread's end"),
    request(0x4004_54d0, "TUNSETOFFLOAD: what a guest's driver can take"),
    only(
        "msync",
        is(2, 4),
        "flush of pmem: MS_SYNC of the mapped file",
    ),
    only(
        "fcntl",
        is(1, 1),
        "F_GETFD: the standard library looks whether what it closes was open",
    )
    .unseen("only in builds with debug assertions"),
];

/// What the loop may besides: the API, the machine's making, snapshots, forks, host sockets of devices. A thread starts with the filter of
/// its maker, so the loop's allows all that a virtual CPU's does.
pub(super) const LOOP: &[Rule] = &[
    only(
        "madvise",
        is(2, 10),
        "MADV_DONTFORK: a CPU's page stays out of children",
    ),
    only(
        "prctl",
        is(0, 0x4155_5856),
        "PR_GET_AUXV: where the kernel's page with the clocks is",
    ),
    only(
        "getrandom",
        is(2, 4),
        "GRND_INSECURE: seeds of the standard library's hash tables",
    ),
    // Threads and children.
    any("gettid", "a thread that starts asks for its stack"),
    only(
        "fcntl",
        is(1, 0x406),
        "F_DUPFD_CLOEXEC: streams with two owners",
    ),
    only("prctl", is(0, 15), "PR_SET_NAME: a thread that starts"),
    only(
        "seccomp",
        is(0, 1),
        "the filter of a CPU's thread, which only takes away",
    ),
    only("clock_nanosleep", is(0, 1), "until CPUs have ended"),
    only("socketpair", is(0, 1), "a child's report to its parent"),
    only("pipe2", is(1, 0x8_0000), "the word that lets children run"),
    only(
        "close_range",
        is(2, 0),
        "a child closes what was its parent's",
    ),
    // Sockets and events.
    any("bind", "the API, vsock, console: also of a copy or child"),
    any("listen", "the API, vsock, console"),
    both(
        "setsockopt",
        is(1, 1),
        is(2, 20),
        "SO_RCVTIMEO: patience with a child",
    ),
    only(
        "sendmsg",
        is(2, 0x4000),
        "hands the memory to a handler of page faults",
    ),
    only(
        "epoll_create1",
        is(0, 0x8_0000),
        "a vsock's streams; a child's loop",
    ),
    only(
        "eventfd2",
        is(1, 0x8_0800),
        "interrupts, events between threads",
    ),
    both(
        "timerfd_create",
        is(0, 1),
        is(1, 0x8_0800),
        "a rate limiter's timer",
    ),
    // Files, by whatever path a client gives: the jail decides what lies there.
    any("open", "snapshots"),
    any("lseek", "sizes; data and holes of memory files"),
    any("ftruncate", "a snapshot's memory"),
    any("copy_file_range", "a full snapshot of a copy"),
    only(
        "linkat",
        is(4, 0x1000),
        "a finished snapshot gets its name (AT_EMPTY_PATH)",
    ),
    only(
        "linkat",
        is(4, 0x400),
        "the same on Linux before 6.10 (AT_SYMLINK_FOLLOW)",
    )
    .unseen(HOST),
    any("rename", "a finished snapshot gets its place"),
    any(
        "unlink",
        "sockets that are done or left over; the earlier snapshot",
    ),
    any("io_uring_setup", "drives with the engine Async"),
    only(
        "io_uring_register",
        is(1, 7),
        "IORING_REGISTER_EVENTFD_ASYNC",
    ),
    // Tables of KVM. Made:
    request(0xae00, "KVM_GET_API_VERSION"),
    request(0xae01, "KVM_CREATE_VM"),
    request(0xae03, "KVM_CHECK_EXTENSION"),
    request(0xae04, "KVM_GET_VCPU_MMAP_SIZE"),
    request(0xae41, "KVM_CREATE_VCPU"),
    request(0xae47, "KVM_SET_TSS_ADDR"),
    request(0xae60, "KVM_CREATE_IRQCHIP"),
    request(0x4040_ae77, "KVM_CREATE_PIT2"),
    request(0x4020_ae76, "KVM_IRQFD: a device's interrupt"),
    request(
        0xc004_ae02,
        "KVM_GET_MSR_INDEX_LIST: what a snapshot has to hold",
    ),
    request(0xc008_ae05, "KVM_GET_SUPPORTED_CPUID"),
    request(0x4008_ae90, "KVM_SET_CPUID2"),
    request(0x4008_ae89, "KVM_SET_MSRS"),
    request(0x4138_ae84, "KVM_SET_SREGS"),
    request(0x4090_ae82, "KVM_SET_REGS"),
    request(0x41a0_ae8d, "KVM_SET_FPU"),
    request(0x8400_ae8e, "KVM_GET_LAPIC"),
    request(0x4400_ae8f, "KVM_SET_LAPIC"),
    // Saved:
    request(
        0xaead,
        "KVM_KVMCLOCK_CTRL: a guest learns that it was stopped",
    ),
    request(0xaea3, "KVM_GET_TSC_KHZ"),
    request(0x8138_ae83, "KVM_GET_SREGS"),
    request(0x8188_aea6, "KVM_GET_XCRS"),
    request(0x9000_aecf, "KVM_GET_XSAVE2"),
    request(0x8080_aea1, "KVM_GET_DEBUGREGS"),
    request(0x8040_ae9f, "KVM_GET_VCPU_EVENTS"),
    request(0x8004_ae98, "KVM_GET_MP_STATE"),
    request(0xc008_ae88, "KVM_GET_MSRS"),
    request(0xc008_ae91, "KVM_GET_CPUID2"),
    request(0xc208_ae62, "KVM_GET_IRQCHIP"),
    request(0x8070_ae9f, "KVM_GET_PIT2"),
    request(0x8030_ae7c, "KVM_GET_CLOCK"),
    // Restored:
    request(0x4188_aea7, "KVM_SET_XCRS"),
    request(0x5000_aea5, "KVM_SET_XSAVE"),
    request(0x4080_aea2, "KVM_SET_DEBUGREGS"),
    request(0x4040_aea0, "KVM_SET_VCPU_EVENTS"),
    request(0x4004_ae99, "KVM_SET_MP_STATE"),
    request(0x8208_ae63, "KVM_SET_IRQCHIP"),
    request(0x4070_aea0, "KVM_SET_PIT2"),
    request(0x4030_ae7b, "KVM_SET_CLOCK"),
    // Taps.
    request(0x4004_54ca, "TUNSETIFF: a network interface"),
    request(0x4004_54d8, "TUNSETVNETHDRSZ: a network interface"),
    // Which pages were written, and who serves those that are missing.
    request(0xc060_6610, "PAGEMAP_SCAN: which pages were written"),
    request(0xaa00, "USERFAULTFD_IOC_NEW"),
    request(0xc018_aa3f, "UFFDIO_API"),
    request(
        0xc020_aa00,
        "UFFDIO_REGISTER: memory that a handler serves, or whose writes are noted",
    ),
    request(0xc018_aa06, "UFFDIO_WRITEPROTECT: notes writes from now on"),
    any("userfaultfd", "where there is no /dev/userfaultfd").unseen(HOST),
    // A terminal as the serial line.
    request(0x802c_542a, "TCGETS2: whether standard input is a terminal"),
    request(0x5401, "TCGETS: the same"),
    request(0x402c_542b, "TCSETS2: a terminal's raw mode"),
];

/// What the C library adds that the monitor is built with.
#[cfg(any(test, not(target_env = "musl")))]
pub(super) mod glibc {
    use super::{EXECUTABLE, KICK, NO_PANIC, Rule, any, is, only, without};

    const THREAD: u64 = 0x003d_0f00; // what pthread_create(3) asks for: all is shared
    const PROCESS: u64 = 0x0120_0011; // what fork(3) asks for: CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID, SIGCHLD
    const WAIT_EXIT: u64 = 0x109; // FUTEX_WAIT_BITSET by the wall clock, not private

    pub(crate) const VCPU: &[Rule] = &[
        only(
            "mprotect",
            without(2, EXECUTABLE),
            "guard pages, the allocator",
        ),
        only("tgkill", is(2, 6), "abort").unseen(NO_PANIC),
    ];

    pub(crate) const LOOP: &[Rule] = &[
        only("clone", is(0, THREAD), "a CPU's thread"),
        only("clone", is(0, PROCESS), "a fork's child"),
        any("rseq", "a thread or child that starts"),
        any("set_robust_list", "a thread or child that starts"),
        only("futex", is(1, WAIT_EXIT), "the end of a thread"),
        only("tgkill", is(2, KICK), "takes a CPU out of its guest"),
        any(
            "sched_getaffinity",
            "a thread that starts asks for its stack",
        ),
        any("brk", "the allocator of the first thread"),
        only(
            "openat",
            is(0, 0xffff_ff9c),
            "kernels, disks, logs, /dev (AT_FDCWD)",
        ),
        any("statx", "kinds and sizes of files"),
    ];
}

#[cfg(any(test, target_env = "musl"))]
pub(super) mod musl {
    use super::{EXECUTABLE, KICK, NO_PANIC, Rule, any, is, only, without};

    const THREAD: u64 = 0x007d_0f00; // what pthread_create(3) asks for, and CLONE_DETACHED, which means nothing
    const SHARED_WAIT: u64 = 0; // FUTEX_WAIT
    const SHARED_WAKE: u64 = 1; // FUTEX_WAKE
    const BOTH: &str = "one starts or ends while another does";

    pub(crate) const VCPU: &[Rule] = &[
        only("futex", is(1, SHARED_WAIT), "the list of threads").unseen(BOTH),
        only("tkill", is(1, 6), "abort").unseen(NO_PANIC),
    ];

    pub(crate) const LOOP: &[Rule] = &[
        only("clone", is(0, THREAD), "a CPU's thread"),
        any("fork", "a fork's child"),
        any("set_tid_address", "a child that starts"),
        only("futex", is(1, SHARED_WAKE), "the list of threads").unseen(BOTH),
        only("tkill", is(1, KICK), "takes a CPU out of its guest"),
        only("mprotect", without(2, EXECUTABLE), "guard pages"),
        only("fcntl", is(1, 2), "F_SETFD: open(3) does it once more"),
        any("fstat", "sizes of files"),
        any("stat", "kinds of files"),
        any("lstat", "whether a socket was left over").unseen("where its path is taken"),
    ];
}

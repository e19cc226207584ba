//! The table of system calls: one row each, from which dispatch, tracing and docs/compat/syscalls.md come.

use super::arguments::{Flags, FromRegister};
use super::{Cx, SysResult};
use crate::errno::Errno;
use crate::memory::Address;

/// How complete a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Full,
    /// What is missing.
    Partial(&'static str),
}
use Support::{Full, Partial};

/// A row, for those who list it.
#[derive(Debug)]
pub struct Row {
    pub nr: i32,
    pub name: &'static str,
    pub family: &'static str,
    pub support: Support,
    pub arguments: &'static [Argument],
}

/// One argument of a row: its name and type there, and how its register is shown.
#[derive(Debug)]
pub struct Argument {
    pub name: &'static str,
    pub kind: &'static str,
    pub show: fn(u64) -> String,
}

/// The argument registers, taken one by one.
struct Registers {
    values: [u64; 6],
    next: usize,
}

impl Registers {
    fn new(values: [u64; 6]) -> Self {
        Self { values, next: 0 }
    }

    fn next(&mut self) -> u64 {
        let value = self.values.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        value
    }

    fn take<T: FromRegister>(&mut self) -> T {
        T::from_register(self.next())
    }

    /// Passes a result on; uses the registers of a call that has no arguments.
    fn end<T>(&mut self, result: T) -> T {
        self.next = self.values.len();
        result
    }
}

macro_rules! syscalls {
    ($($nr:literal $name:ident($($argument:ident: $type:ty),*) => $family:ident, $support:expr;)*) => {
        pub const ROWS: &[Row] = &[$(Row {
            nr: $nr,
            name: stringify!($name),
            family: stringify!($family),
            support: $support,
            arguments: &[$(Argument {
                name: stringify!($argument),
                kind: stringify!($type),
                show: <$type as FromRegister>::show,
            }),*],
        }),*];

        /// Handles a call by its row; `ENOSYS` and a count if there is none.
        pub fn dispatch(cx: &mut Cx<'_>) -> SysResult {
            let mut registers = Registers::new(cx.call.args);
            match cx.call.nr {
                $($nr => {
                    $(let $argument: $type = registers.take();)*
                    registers.end(super::$family::$name(cx, $($argument),*))
                })*
                _ => Err(Errno::ENOSYS),
            }
        }
    };
}

syscalls! {
    0 read(fd: i32, buf: Address, count: usize) => read_write, Full;
    1 write(fd: i32, buf: Address, count: usize) => read_write, Full;
    2 open(path: Address, flags: Flags, mode: u32) => open, Full;
    3 close(fd: i32) => descriptors, Full;
    4 stat(path: Address, statbuf: Address) => stat, Full;
    5 fstat(fd: i32, statbuf: Address) => stat, Full;
    6 lstat(path: Address, statbuf: Address) => stat, Full;
    7 poll(fds: Address, nfds: u32, timeout: i32) => poll, Full;
    8 lseek(fd: i32, offset: i64, whence: i32) => read_write, Full;
    9 mmap(addr: Address, len: u64, prot: Flags, flags: Flags, fd: i32, offset: u64) => memory_calls, Full;
    13 rt_sigaction(signum: i32, act: Address, oldact: Address, size: usize) => signal, Full;
    14 rt_sigprocmask(how: i32, set: Address, oldset: Address, size: usize) => signal, Full;
    15 rt_sigreturn() => signal, Full;
    16 ioctl(fd: i32, request: u32, argument: Address) => descriptors, Full;
    17 pread64(fd: i32, buf: Address, count: usize, offset: i64) => read_write, Full;
    18 pwrite64(fd: i32, buf: Address, count: usize, offset: i64) => read_write, Full;
    19 readv(fd: i32, iov: Address, count: u64) => read_write, Full;
    20 writev(fd: i32, iov: Address, count: u64) => read_write, Full;
    21 access(path: Address, mode: u32) => stat, Full;
    22 pipe(fds: Address) => descriptors, Full;
    23 select(nfds: i32, read: Address, write: Address, except: Address, timeout: Address) => poll, Full;
    26 msync(addr: Address, len: u64, flags: Flags) => memory_calls, Full;
    27 mincore(addr: Address, len: u64, vec: Address) => memory_locks, Full;
    28 madvise(addr: Address, len: u64, advice: i32) => memory_calls, Full;
    29 shmget(key: i32, size: usize, flags: Flags) => sysv, Partial("the host's own object: its permissions do not tell the sandbox's users apart");
    30 shmat(id: i32, address: Address, flags: Flags) => sysv, Full;
    31 shmctl(id: i32, command: i32, buf: Address) => sysv, Partial("owners as the host's user namespace shows them");
    32 dup(fd: i32) => descriptors, Full;
    33 dup2(from: i32, to: i32) => descriptors, Full;
    34 pause() => signal, Full;
    35 nanosleep(request: Address, remaining: Address) => time, Full;
    36 getitimer(which: i32, current: Address) => timers, Full;
    37 alarm(seconds: u32) => timers, Full;
    38 setitimer(which: i32, new: Address, old: Address) => timers, Full;
    39 getpid() => identity, Full;
    40 sendfile(out: i32, input: i32, offset: Address, count: usize) => sendfile, Full;
    41 socket(domain: i32, kind: i32, protocol: i32) => socket, Partial("AF_UNIX, AF_INET, AF_INET6, rtnetlink's questions");
    42 connect(fd: i32, address: Address, len: u32) => socket, Full;
    43 accept(fd: i32, address: Address, len: Address) => socket, Full;
    44 sendto(fd: i32, buf: Address, size: usize, flags: Flags, address: Address, len: u32) => socket_data, Full;
    45 recvfrom(fd: i32, buf: Address, size: usize, flags: Flags, address: Address, len: Address) => socket_data, Full;
    46 sendmsg(fd: i32, message: Address, flags: Flags) => socket_messages, Partial("no MSG_ZEROCOPY");
    47 recvmsg(fd: i32, message: Address, flags: Flags) => socket_messages, Full;
    48 shutdown(fd: i32, how: i32) => socket, Full;
    49 bind(fd: i32, address: Address, len: u32) => socket, Full;
    50 listen(fd: i32, backlog: i32) => socket, Full;
    51 getsockname(fd: i32, address: Address, len: Address) => socket, Full;
    52 getpeername(fd: i32, address: Address, len: Address) => socket, Full;
    53 socketpair(domain: i32, kind: i32, protocol: i32, fds: Address) => socket, Full;
    54 setsockopt(fd: i32, level: i32, name: i32, value: Address, len: i32) => socket_options, Partial("a list of options per level");
    55 getsockopt(fd: i32, level: i32, name: i32, value: Address, len: Address) => socket_options, Partial("a list of options per level");
    56 clone(flags: u64, stack: Address, parent_tid: Address, child_tid: Address, tls: Address) => clone, Partial("no namespaces");
    57 fork() => clone, Full;
    58 vfork() => clone, Full;
    59 execve(path: Address, argv: Address, envp: Address) => exec, Full;
    60 exit(status: i32) => process, Full;
    61 wait4(pid: i32, status: Address, options: Flags, rusage: Address) => process, Full;
    62 kill(pid: i32, signal: i32) => signal, Full;
    63 uname(name: Address) => system, Full;
    64 semget(key: i32, count: i32, flags: Flags) => sysv_semaphores, Full;
    65 semop(id: i32, operations: Address, count: usize) => sysv_semaphores, Full;
    66 semctl(id: i32, index: i32, command: i32, argument: u64) => sysv_semaphores, Full;
    67 shmdt(address: Address) => sysv, Full;
    68 msgget(key: i32, flags: Flags) => sysv_messages, Full;
    69 msgsnd(id: i32, message: Address, size: usize, flags: Flags) => sysv_messages, Full;
    70 msgrcv(id: i32, message: Address, size: usize, kind: i64, flags: Flags) => sysv_messages, Full;
    71 msgctl(id: i32, command: i32, buf: Address) => sysv_messages, Full;
    72 fcntl(fd: i32, command: i32, argument: u64) => descriptors, Partial("no leases, no F_NOTIFY");
    73 flock(fd: i32, operation: Flags) => locks, Full;
    74 fsync(fd: i32) => file_systems, Full;
    75 fdatasync(fd: i32) => file_systems, Full;
    76 truncate(path: Address, length: i64) => size, Full;
    77 ftruncate(fd: i32, length: i64) => size, Full;
    78 getdents(fd: i32, buf: Address, size: u32) => directories, Full;
    79 getcwd(buf: Address, size: usize) => directories, Full;
    80 chdir(path: Address) => directories, Full;
    81 fchdir(fd: i32) => directories, Full;
    82 rename(from: Address, to: Address) => directories, Full;
    83 mkdir(path: Address, mode: u32) => directories, Full;
    84 rmdir(path: Address) => directories, Full;
    85 creat(path: Address, mode: u32) => open, Full;
    86 link(from: Address, to: Address) => directories, Full;
    87 unlink(path: Address) => directories, Full;
    88 symlink(target: Address, path: Address) => directories, Full;
    89 readlink(path: Address, buf: Address, size: usize) => stat, Full;
    90 chmod(path: Address, mode: u32) => ownership, Full;
    91 fchmod(fd: i32, mode: u32) => ownership, Partial("a pipe's or socket's mode stays");
    92 chown(path: Address, uid: u32, gid: u32) => ownership, Full;
    93 fchown(fd: i32, uid: u32, gid: u32) => ownership, Partial("a pipe's or socket's owner stays");
    94 lchown(path: Address, uid: u32, gid: u32) => ownership, Full;
    95 umask(mask: u32) => system, Full;
    96 gettimeofday(time: Address, zone: Address) => time, Full;
    97 getrlimit(resource: u32, limit: Address) => resources, Full;
    98 getrusage(who: i32, usage: Address) => resources, Partial("of children only times and the largest memory");
    99 sysinfo(info: Address) => resources, Full;
    100 times(buf: Address) => resources, Full;
    101 ptrace(request: i32, pid: i32, addr: u64, data: u64) => ptrace, Partial("no PTRACE_SYSEMU, PTRACE_O_TRACESECCOMP, PTRACE_SECCOMP_GET_FILTER, hardware breakpoints");
    102 getuid() => identity, Full;
    103 syslog() => refused, Partial("EPERM: the log is the host's");
    104 getgid() => identity, Full;
    105 setuid(uid: u32) => credentials, Full;
    106 setgid(gid: u32) => credentials, Full;
    107 geteuid() => identity, Full;
    108 getegid() => identity, Full;
    109 setpgid(pid: i32, group: i32) => jobs, Full;
    110 getppid() => identity, Full;
    111 getpgrp() => jobs, Full;
    112 setsid() => jobs, Full;
    113 setreuid(real: u32, effective: u32) => credentials, Full;
    114 setregid(real: u32, effective: u32) => credentials, Full;
    115 getgroups(size: i32, list: Address) => credentials, Full;
    116 setgroups(size: i32, list: Address) => credentials, Full;
    117 setresuid(real: u32, effective: u32, saved: u32) => credentials, Full;
    118 getresuid(real: Address, effective: Address, saved: Address) => credentials, Full;
    119 setresgid(real: u32, effective: u32, saved: u32) => credentials, Full;
    120 getresgid(real: Address, effective: Address, saved: Address) => credentials, Full;
    121 getpgid(pid: i32) => jobs, Full;
    122 setfsuid(uid: u32) => credentials, Full;
    123 setfsgid(gid: u32) => credentials, Full;
    124 getsid(pid: i32) => jobs, Full;
    125 capget(header: Address, data: Address) => privileges, Full;
    126 capset(header: Address, data: Address) => privileges, Full;
    127 rt_sigpending(set: Address, size: usize) => signal, Full;
    128 rt_sigtimedwait(set: Address, info: Address, timeout: Address, size: usize) => signal, Full;
    129 rt_sigqueueinfo(pid: i32, signal: i32, info: Address) => signal_send, Full;
    130 rt_sigsuspend(mask: Address, size: usize) => signal, Full;
    131 sigaltstack(stack: Address, old: Address) => signal, Full;
    132 utime(path: Address, times: Address) => times, Full;
    133 mknod(path: Address, mode: u32, device: u64) => nodes, Partial("no devices: EPERM");
    135 personality(persona: u32) => resources, Partial("kept, without effect");
    137 statfs(path: Address, buf: Address) => file_systems, Full;
    138 fstatfs(fd: i32, buf: Address) => file_systems, Full;
    140 getpriority(which: i32, who: i32) => priorities, Full;
    141 setpriority(which: i32, who: i32, nice: i32) => priorities, Partial("of groups and users kept, without effect on the host's scheduling");
    142 sched_setparam(tid: i32, param: Address) => scheduling, Partial("policies are kept, the host schedules all alike");
    143 sched_getparam(tid: i32, param: Address) => scheduling, Full;
    144 sched_setscheduler(tid: i32, policy: i32, param: Address) => scheduling, Partial("policies are kept, the host schedules all alike");
    145 sched_getscheduler(tid: i32) => scheduling, Full;
    146 sched_get_priority_max(policy: i32) => scheduling, Full;
    147 sched_get_priority_min(policy: i32) => scheduling, Full;
    148 sched_rr_get_interval(tid: i32, interval: Address) => scheduling, Full;
    149 mlock(addr: Address, len: u64) => memory_locks, Partial("the host's RLIMIT_MEMLOCK holds");
    150 munlock(addr: Address, len: u64) => memory_locks, Full;
    151 mlockall(flags: Flags) => memory_locks, Partial("the host's RLIMIT_MEMLOCK holds");
    152 munlockall() => memory_locks, Full;
    153 vhangup() => refused, Partial("EPERM: as without CAP_SYS_TTY_CONFIG");
    154 modify_ldt() => refused, Partial("ENOSYS: as a kernel without it");
    155 pivot_root() => refused, Partial("EPERM: the tree is the plan's");
    157 prctl(option: i32, a: u64, b: u64, c: u64, d: u64) => system, Partial("no PR_SET_MM");
    158 arch_prctl(code: i32, address: u64) => system, Full;
    159 adjtimex(timex: Address) => time, Full;
    160 setrlimit(resource: u32, limit: Address) => resources, Full;
    161 chroot(path: Address) => root, Full;
    162 sync() => file_systems, Partial("the root's file system");
    163 acct() => refused, Partial("EPERM: as without CAP_SYS_PACCT");
    164 settimeofday(time: Address, zone: Address) => time, Full;
    165 mount() => refused, Partial("EPERM: the tree is the plan's");
    166 umount2() => refused, Partial("EPERM: the tree is the plan's");
    167 swapon() => refused, Partial("EPERM: the machine is the host's");
    168 swapoff() => refused, Partial("EPERM: the machine is the host's");
    169 reboot() => refused, Partial("EPERM: the machine is the host's");
    170 sethostname(name: Address, len: i32) => root, Full;
    171 setdomainname(name: Address, len: i32) => root, Full;
    172 iopl() => refused, Partial("EPERM: the machine is the host's");
    173 ioperm() => refused, Partial("EPERM: the machine is the host's");
    175 init_module() => refused, Partial("EPERM: the machine is the host's");
    176 delete_module() => refused, Partial("EPERM: the machine is the host's");
    179 quotactl() => refused, Partial("EPERM: quotas are the host's");
    186 gettid() => identity, Full;
    187 readahead(fd: i32, offset: i64, count: usize) => read_write_flags, Full;
    188 setxattr(path: Address, name: Address, data: Address, size: usize, flags: u32) => xattr, Partial("user. and POSIX ACLs, which only the host's checks heed; others EPERM");
    189 lsetxattr(path: Address, name: Address, data: Address, size: usize, flags: u32) => xattr, Partial("as setxattr");
    190 fsetxattr(fd: i32, name: Address, data: Address, size: usize, flags: u32) => xattr, Partial("as setxattr");
    191 getxattr(path: Address, name: Address, data: Address, size: usize) => xattr, Partial("user., POSIX ACLs and security.capability; others ENODATA");
    192 lgetxattr(path: Address, name: Address, data: Address, size: usize) => xattr, Partial("as getxattr");
    193 fgetxattr(fd: i32, name: Address, data: Address, size: usize) => xattr, Partial("as getxattr");
    194 listxattr(path: Address, list: Address, size: usize) => xattr, Partial("as getxattr");
    195 llistxattr(path: Address, list: Address, size: usize) => xattr, Partial("as getxattr");
    196 flistxattr(fd: i32, list: Address, size: usize) => xattr, Partial("as getxattr");
    197 removexattr(path: Address, name: Address) => xattr, Partial("as setxattr");
    198 lremovexattr(path: Address, name: Address) => xattr, Partial("as setxattr");
    199 fremovexattr(fd: i32, name: Address) => xattr, Partial("as setxattr");
    200 tkill(tid: i32, signal: i32) => signal, Full;
    201 time(result: Address) => time, Full;
    202 futex(address: Address, operation: i32, value: u32, timeout: Address, address2: Address, value3: u32) => memory_calls, Full;
    203 sched_setaffinity(tid: i32, len: u32, mask: Address) => scheduling, Full;
    204 sched_getaffinity(tid: i32, len: u32, mask: Address) => scheduling, Full;
    206 io_setup(events: u32, context: Address) => aio, Partial("carried out when submitted; at most 200 contexts of a process");
    207 io_destroy(context: u64) => aio, Full;
    208 io_getevents(context: u64, least: i64, most: i64, events: Address, timeout: Address) => aio, Full;
    209 io_submit(context: u64, count: i64, requests: Address) => aio, Partial("a signal while a request waits: fewer are submitted");
    210 io_cancel(context: u64, request: Address, result: Address) => aio, Full;
    212 lookup_dcookie() => refused, Partial("EPERM: the machine is the host's");
    213 epoll_create(size: i32) => epoll, Full;
    217 getdents64(fd: i32, buf: Address, size: usize) => directories, Full;
    218 set_tid_address(address: Address) => system, Full;
    219 restart_syscall() => signal, Full;
    220 semtimedop(id: i32, operations: Address, count: usize, timeout: Address) => sysv_semaphores, Full;
    221 fadvise64(fd: i32, offset: i64, len: i64, advice: i32) => read_write_flags, Full;
    222 timer_create(clock: i32, event: Address, id: Address) => timers, Partial("CPU time of other threads and processes");
    223 timer_settime(id: i32, flags: Flags, new: Address, old: Address) => timers, Partial("a host's clock that is set does not move absolute times");
    224 timer_gettime(id: i32, current: Address) => timers, Full;
    225 timer_getoverrun(id: i32) => timers, Full;
    226 timer_delete(id: i32) => timers, Full;
    227 clock_settime(clock: i32, time: Address) => time, Full;
    228 clock_gettime(clock: i32, time: Address) => time, Full;
    229 clock_getres(clock: i32, resolution: Address) => time, Full;
    230 clock_nanosleep(clock: i32, flags: Flags, request: Address, remaining: Address) => time, Partial("no clocks that wake the machine, no CPU time of others");
    231 exit_group(status: i32) => process, Full;
    232 epoll_wait(epfd: i32, events: Address, maxevents: i32, timeout: i32) => epoll, Full;
    233 epoll_ctl(epfd: i32, operation: i32, fd: i32, event: Address) => epoll, Full;
    234 tgkill(pid: i32, tid: i32, signal: i32) => signal, Full;
    235 utimes(path: Address, times: Address) => times, Full;
    237 mbind(addr: Address, len: u64, mode: i32, nodes: Address, most: u64, flags: Flags) => memory_policy, Partial("one node: checked, without effect");
    238 set_mempolicy(mode: i32, nodes: Address, most: u64) => memory_policy, Partial("one node: kept, without effect");
    239 get_mempolicy(mode: Address, nodes: Address, most: u64, addr: Address, flags: Flags) => memory_policy, Partial("one node; memory's own policy is the default");
    240 mq_open(name: Address, flags: Flags, mode: u32, attributes: Address) => mqueue, Full;
    241 mq_unlink(name: Address) => mqueue, Full;
    242 mq_timedsend(fd: i32, message: Address, len: usize, priority: u32, timeout: Address) => mqueue, Full;
    243 mq_timedreceive(fd: i32, message: Address, len: usize, priority: Address, timeout: Address) => mqueue, Full;
    244 mq_notify(fd: i32, event: Address) => mqueue, Full;
    245 mq_getsetattr(fd: i32, new: Address, old: Address) => mqueue, Full;
    246 kexec_load() => refused, Partial("EPERM: the machine is the host's");
    247 waitid(kind: i32, id: i32, info: Address, options: Flags, rusage: Address) => process, Full;
    248 add_key() => refused, Partial("EPERM: no keys of the kernel");
    249 request_key() => refused, Partial("EPERM: no keys of the kernel");
    250 keyctl() => refused, Partial("EPERM: no keys of the kernel");
    251 ioprio_set(which: i32, who: i32, priority: i32) => priorities, Partial("kept, without effect");
    252 ioprio_get(which: i32, who: i32) => priorities, Full;
    253 inotify_init() => notify, Full;
    254 inotify_add_watch(fd: i32, path: Address, mask: Flags) => notify, Partial("nothing of /proc and other trees of the sentry's own");
    255 inotify_rm_watch(fd: i32, watch: i32) => notify, Full;
    256 migrate_pages() => refused, Partial("EPERM: the machine is the host's");
    257 openat(directory: i32, path: Address, flags: Flags, mode: u32) => open, Full;
    258 mkdirat(directory: i32, path: Address, mode: u32) => directories, Full;
    259 mknodat(directory: i32, path: Address, mode: u32, device: u64) => nodes, Partial("no devices: EPERM");
    260 fchownat(directory: i32, path: Address, uid: u32, gid: u32, flags: Flags) => ownership, Full;
    261 futimesat(directory: i32, path: Address, times: Address) => times, Full;
    262 newfstatat(directory: i32, path: Address, statbuf: Address, flags: Flags) => stat, Full;
    263 unlinkat(directory: i32, path: Address, flags: Flags) => directories, Full;
    264 renameat(from_directory: i32, from: Address, to_directory: i32, to: Address) => directories, Full;
    265 linkat(from_directory: i32, from: Address, to_directory: i32, to: Address, flags: Flags) => directories, Full;
    266 symlinkat(target: Address, directory: i32, path: Address) => directories, Full;
    267 readlinkat(directory: i32, path: Address, buf: Address, size: usize) => stat, Full;
    268 fchmodat(directory: i32, path: Address, mode: u32) => ownership, Full;
    269 faccessat(directory: i32, path: Address, mode: u32) => stat, Full;
    270 pselect6(nfds: i32, read: Address, write: Address, except: Address, timeout: Address, mask: Address) => poll, Full;
    271 ppoll(fds: Address, nfds: u32, timeout: Address, mask: Address, size: usize) => poll, Full;
    273 set_robust_list(head: Address, len: usize) => system, Full;
    272 unshare(flags: u64) => sharing, Partial("EPERM for namespaces");
    274 get_robust_list(tid: i32, head: Address, len: Address) => sharing, Full;
    275 splice(from: i32, from_offset: Address, to: i32, to_offset: Address, len: usize, flags: Flags) => splice, Full;
    276 tee(from: i32, to: i32, len: usize, flags: Flags) => splice, Full;
    277 sync_file_range(fd: i32, offset: i64, len: i64, flags: Flags) => file_systems, Full;
    278 vmsplice(fd: i32, iov: Address, count: u64, flags: Flags) => splice, Partial("copies: later changes of the memory are not seen");
    279 move_pages() => refused, Partial("EPERM: the machine is the host's");
    280 utimensat(directory: i32, path: Address, times: Address, flags: Flags) => times, Full;
    281 epoll_pwait(epfd: i32, events: Address, maxevents: i32, timeout: i32, mask: Address, size: usize) => epoll, Full;
    282 signalfd(fd: i32, mask: Address, size: usize) => event, Full;
    283 timerfd_create(clock: i32, flags: Flags) => event, Full;
    284 eventfd(initial: u32) => event, Full;
    285 fallocate(fd: i32, mode: u32, offset: i64, len: i64) => size, Full;
    286 timerfd_settime(fd: i32, flags: Flags, new: Address, old: Address) => event, Full;
    287 timerfd_gettime(fd: i32, current: Address) => event, Full;
    288 accept4(fd: i32, address: Address, len: Address, flags: Flags) => socket, Full;
    289 signalfd4(fd: i32, mask: Address, size: usize, flags: Flags) => event, Full;
    290 eventfd2(initial: u32, flags: Flags) => event, Full;
    291 epoll_create1(flags: Flags) => epoll, Full;
    292 dup3(from: i32, to: i32, flags: Flags) => descriptors, Full;
    293 pipe2(fds: Address, flags: Flags) => descriptors, Full;
    294 inotify_init1(flags: Flags) => notify, Full;
    295 preadv(fd: i32, iov: Address, count: u64, offset: i64) => read_write, Full;
    296 pwritev(fd: i32, iov: Address, count: u64, offset: i64) => read_write, Full;
    297 rt_tgsigqueueinfo(pid: i32, tid: i32, signal: i32, info: Address) => signal_send, Full;
    298 perf_event_open() => refused, Partial("EPERM: the machine is the host's");
    299 recvmmsg(fd: i32, messages: Address, count: u32, flags: Flags, timeout: Address) => socket_messages, Full;
    300 fanotify_init() => refused, Partial("EPERM: as without CAP_SYS_ADMIN");
    301 fanotify_mark(fd: i32) => refused, Partial("there is no fanotify group");
    302 prlimit64(pid: i32, resource: u32, new: Address, old: Address) => system, Full;
    303 name_to_handle_at() => refused, Partial("EOPNOTSUPP: no file handles");
    304 open_by_handle_at() => refused, Partial("EPERM: as without CAP_DAC_READ_SEARCH");
    305 clock_adjtime(clock: i32, timex: Address) => time, Full;
    306 syncfs(fd: i32) => file_systems, Full;
    307 sendmmsg(fd: i32, messages: Address, count: u32, flags: Flags) => socket_messages, Full;
    308 setns(fd: i32, kind: i32) => sharing, Partial("EPERM: no namespaces inside");
    309 getcpu(cpu: Address, node: Address, cache: Address) => scheduling, Full;
    310 process_vm_readv(pid: i32, local: Address, nr_local: u64, remote: Address, nr_remote: u64, flags: u64) => process_memory, Full;
    311 process_vm_writev(pid: i32, local: Address, nr_local: u64, remote: Address, nr_remote: u64, flags: u64) => process_memory, Full;
    312 kcmp() => refused, Partial("EPERM: no process traces another");
    313 finit_module() => refused, Partial("EPERM: the machine is the host's");
    314 sched_setattr(tid: i32, attr: Address, flags: u32) => scheduling, Partial("no deadlines, no utilisation clamps");
    315 sched_getattr(tid: i32, attr: Address, size: u32, flags: u32) => scheduling, Full;
    316 renameat2(from_directory: i32, from: Address, to_directory: i32, to: Address, flags: Flags) => directories, Full;
    317 seccomp(operation: u32, flags: u64, arguments: Address) => sandboxed, Partial("filters do not see the calls that the host answers natively; no listener; KILL_THREAD ends the process");
    318 getrandom(buf: Address, count: usize, flags: Flags) => system, Full;
    319 memfd_create(name: Address, flags: Flags) => memfd, Partial("no huge pages");
    320 kexec_file_load() => refused, Partial("EPERM: the machine is the host's");
    321 bpf() => refused, Partial("EPERM: as without CAP_BPF");
    322 execveat(directory: i32, path: Address, argv: Address, envp: Address, flags: Flags) => exec, Full;
    323 userfaultfd() => refused, Partial("EPERM: as docker's default");
    324 membarrier(command: i32, flags: Flags, cpu: i32) => memory_locks, Full;
    325 mlock2(addr: Address, len: u64, flags: Flags) => memory_locks, Partial("the host's RLIMIT_MEMLOCK holds");
    326 copy_file_range(from: i32, from_offset: Address, to: i32, to_offset: Address, len: usize, flags: Flags) => copy_file_range, Full;
    327 preadv2(fd: i32, iov: Address, count: u64, offset: i64, high: u64, flags: Flags) => read_write_flags, Partial("RWF_NOWAIT on regular files is refused");
    328 pwritev2(fd: i32, iov: Address, count: u64, offset: i64, high: u64, flags: Flags) => read_write_flags, Partial("no RWF_ATOMIC");
    329 pkey_mprotect(addr: u64, len: u64, prot: Flags, key: i32) => sharing, Full;
    330 pkey_alloc(flags: Flags, rights: u64) => sharing, Full;
    331 pkey_free(key: i32) => sharing, Full;
    332 statx(directory: i32, path: Address, flags: Flags, mask: u32, statxbuf: Address) => stat, Full;
    333 io_pgetevents(context: u64, least: i64, most: i64, events: Address, timeout: Address, signals: Address) => aio, Full;
    334 rseq(area: Address, len: u32, flags: Flags, signature: u32) => system, Full;
    424 pidfd_send_signal(fd: i32, signal: i32, info: Address, flags: Flags) => pidfd, Full;
    425 io_uring_setup() => refused, Partial("EPERM: as docker's default");
    426 io_uring_enter() => refused, Partial("EPERM: as docker's default");
    427 io_uring_register() => refused, Partial("EPERM: as docker's default");
    428 open_tree() => refused, Partial("EPERM: the tree is the plan's");
    429 move_mount() => refused, Partial("EPERM: the tree is the plan's");
    430 fsopen() => refused, Partial("EPERM: the tree is the plan's");
    431 fsconfig() => refused, Partial("EPERM: the tree is the plan's");
    432 fsmount() => refused, Partial("EPERM: the tree is the plan's");
    433 fspick() => refused, Partial("EPERM: the tree is the plan's");
    434 pidfd_open(pid: i32, flags: Flags) => pidfd, Full;
    435 clone3(arguments: Address, size: usize) => clone3, Partial("set_tid is EPERM for all");
    436 close_range(first: u32, last: u32, flags: Flags) => close_range, Full;
    437 openat2(directory: i32, path: Address, how: Address, size: usize) => open, Partial("with RESOLVE_*, a dangling link is not created through");
    438 pidfd_getfd(fd: i32, target: i32, flags: Flags) => pidfd, Full;
    439 faccessat2(directory: i32, path: Address, mode: u32, flags: Flags) => stat, Full;
    440 process_madvise() => refused, Partial("EPERM: no process traces another");
    441 epoll_pwait2(epfd: i32, events: Address, maxevents: i32, timeout: Address, mask: Address, size: usize) => epoll, Full;
    442 mount_setattr() => refused, Partial("EPERM: the tree is the plan's");
    443 quotactl_fd() => refused, Partial("EPERM: quotas are the host's");
    444 landlock_create_ruleset() => refused, Partial("ENOSYS: as a kernel without it");
    445 landlock_add_rule() => refused, Partial("ENOSYS: as a kernel without it");
    446 landlock_restrict_self() => refused, Partial("ENOSYS: as a kernel without it");
    448 process_mrelease() => refused, Partial("EPERM: memory is the host's to take back");
    449 futex_waitv(waiters: Address, count: u32, flags: Flags, timeout: Address, clock: i32) => sharing, Full;
    452 fchmodat2(directory: i32, path: Address, mode: u32, flags: Flags) => ownership, Full;
    454 futex_wake(address: Address, mask: u64, count: i32, flags: Flags) => sharing, Full;
    455 futex_wait(address: Address, value: u64, mask: u64, flags: Flags, timeout: Address, clock: i32) => sharing, Full;
    456 futex_requeue(waiters: Address, flags: Flags, wake: i32, requeue: i32) => sharing, Full;
}

#[must_use]
pub fn row(nr: i32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.nr == nr)
}

/// The call's name, or its number.
#[must_use]
pub fn name(nr: i32) -> String {
    match row(nr) {
        Some(row) => row.name.to_owned(),
        None => super::names::of(nr).map_or_else(|| format!("syscall_{nr}"), str::to_owned),
    }
}

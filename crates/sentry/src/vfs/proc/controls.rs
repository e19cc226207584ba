//! /proc/sys: what programs ask sysctl(2)'s files for. All read-only, as containers mount them.

use super::system::{Row, Text};
use crate::kernel::Kernel;
use crate::syscalls::system::{RELEASE, VERSION};

const fn directory(path: &'static str) -> Row {
    Row {
        path,
        mode: libc::S_IFDIR | 0o555,
        text: |_| Vec::new(),
    }
}

const fn control(path: &'static str, text: Text) -> Row {
    Row {
        path,
        mode: libc::S_IFREG | 0o644,
        text,
    }
}

const fn fixed(path: &'static str, text: Text) -> Row {
    Row {
        path,
        mode: libc::S_IFREG | 0o444,
        text,
    }
}

fn line(text: &[u8]) -> Vec<u8> {
    [text, b"\n"].concat()
}

/// What the host says for the container's namespaces, where `linux.sysctl` may have changed it; else Linux's default.
fn host(kernel: &Kernel, path: &str, otherwise: &[u8]) -> Vec<u8> {
    let found = crate::kernel::machine::read_below(&kernel.host_proc, &format!("sys/{path}"), 4096);
    found.unwrap_or_else(|| line(otherwise))
}

pub const ROWS: &[Row] = &[
    directory("sys"),
    directory("sys/fs"),
    control("sys/fs/aio-max-nr", |_| line(b"65536")),
    control("sys/fs/file-max", |_| line(b"9223372036854775807")),
    fixed("sys/fs/file-nr", |kernel| {
        let open: usize = kernel
            .tasks
            .values()
            .map(|task| task.files.lock().numbers().len())
            .sum();
        format!("{open}\t0\t9223372036854775807\n").into_bytes()
    }),
    directory("sys/fs/inotify"),
    control("sys/fs/inotify/max_queued_events", |_| line(b"16384")),
    control("sys/fs/inotify/max_user_instances", |_| line(b"128")),
    control("sys/fs/inotify/max_user_watches", |_| line(b"65536")),
    directory("sys/fs/mqueue"),
    control("sys/fs/mqueue/msg_default", |_| line(b"10")),
    control("sys/fs/mqueue/msg_max", |_| line(b"10")),
    control("sys/fs/mqueue/msgsize_default", |_| line(b"8192")),
    control("sys/fs/mqueue/msgsize_max", |_| line(b"8192")),
    control("sys/fs/mqueue/queues_max", |_| line(b"256")),
    control("sys/fs/nr_open", |_| line(b"1048576")),
    control("sys/fs/pipe-max-size", |_| line(b"1048576")),
    control("sys/fs/pipe-user-pages-soft", |_| line(b"16384")),
    control("sys/fs/protected_hardlinks", |_| line(b"1")),
    control("sys/fs/protected_symlinks", |_| line(b"1")),
    control("sys/fs/suid_dumpable", |_| line(b"0")),
    directory("sys/kernel"),
    fixed("sys/kernel/cap_last_cap", |_| line(b"40")),
    control("sys/kernel/core_pattern", |_| line(b"core")),
    control("sys/kernel/core_uses_pid", |_| line(b"0")),
    control("sys/kernel/domainname", |kernel| line(&kernel.domainname)),
    control("sys/kernel/hostname", |kernel| line(&kernel.hostname)),
    control("sys/kernel/kptr_restrict", |_| line(b"2")),
    control("sys/kernel/msgmax", |kernel| {
        host(kernel, "kernel/msgmax", b"8192")
    }),
    control("sys/kernel/msgmnb", |kernel| {
        host(kernel, "kernel/msgmnb", b"16384")
    }),
    control("sys/kernel/msgmni", |kernel| {
        host(kernel, "kernel/msgmni", b"32000")
    }),
    fixed("sys/kernel/ngroups_max", |_| line(b"65536")),
    fixed("sys/kernel/osrelease", |_| line(RELEASE.as_bytes())),
    fixed("sys/kernel/ostype", |_| line(b"Linux")),
    control("sys/kernel/overflowgid", |_| line(b"65534")),
    control("sys/kernel/overflowuid", |_| line(b"65534")),
    control("sys/kernel/perf_event_paranoid", |_| line(b"4")),
    control("sys/kernel/pid_max", |kernel| {
        let host = crate::kernel::machine::read_below(&kernel.host_proc, "sys/kernel/pid_max", 32);
        host.unwrap_or_else(|| line(b"32768"))
    }),
    directory("sys/kernel/random"),
    fixed("sys/kernel/random/boot_id", |kernel| {
        line(uuid(kernel.machine.boot_id).as_bytes())
    }),
    fixed("sys/kernel/random/entropy_avail", |_| line(b"256")),
    fixed("sys/kernel/random/poolsize", |_| line(b"256")),
    fixed("sys/kernel/random/uuid", |_| {
        let mut bytes = [0; 16];
        let _ = crate::host::random(&mut bytes);
        line(uuid(bytes).as_bytes())
    }),
    control("sys/kernel/randomize_va_space", |_| line(b"2")),
    control("sys/kernel/sched_child_runs_first", |_| line(b"0")),
    directory("sys/kernel/seccomp"),
    fixed("sys/kernel/seccomp/actions_avail", |_| {
        line(b"kill_process kill_thread trap errno user_notif trace log allow")
    }),
    control("sys/kernel/sem", |kernel| {
        host(kernel, "kernel/sem", b"32000\t1024000000\t500\t32000")
    }),
    control("sys/kernel/shmall", |kernel| {
        host(kernel, "kernel/shmall", b"18446744073692774399")
    }),
    control("sys/kernel/shm_rmid_forced", |kernel| {
        host(kernel, "kernel/shm_rmid_forced", b"0")
    }),
    control("sys/kernel/shmmax", |kernel| {
        host(kernel, "kernel/shmmax", b"18446744073692774399")
    }),
    control("sys/kernel/shmmni", |kernel| {
        host(kernel, "kernel/shmmni", b"4096")
    }),
    control("sys/kernel/threads-max", |_| line(b"4194303")),
    fixed("sys/kernel/version", |_| line(VERSION.as_bytes())),
    directory("sys/kernel/yama"),
    control("sys/kernel/yama/ptrace_scope", |_| line(b"0")),
    directory("sys/net"),
    directory("sys/net/core"),
    control("sys/net/core/rmem_default", |_| line(b"212992")),
    control("sys/net/core/rmem_max", |_| line(b"212992")),
    control("sys/net/core/somaxconn", |kernel| {
        host(kernel, "net/core/somaxconn", b"4096")
    }),
    control("sys/net/core/wmem_default", |_| line(b"212992")),
    control("sys/net/core/wmem_max", |_| line(b"212992")),
    directory("sys/net/ipv4"),
    control("sys/net/ipv4/ip_forward", |kernel| {
        host(kernel, "net/ipv4/ip_forward", b"0")
    }),
    control("sys/net/ipv4/ip_local_port_range", |kernel| {
        host(kernel, "net/ipv4/ip_local_port_range", b"32768\t60999")
    }),
    control("sys/net/ipv4/ip_unprivileged_port_start", |kernel| {
        host(kernel, "net/ipv4/ip_unprivileged_port_start", b"1024")
    }),
    control("sys/net/ipv4/ping_group_range", |kernel| {
        host(kernel, "net/ipv4/ping_group_range", b"1\t0")
    }),
    control("sys/net/ipv4/tcp_fin_timeout", |kernel| {
        host(kernel, "net/ipv4/tcp_fin_timeout", b"60")
    }),
    control("sys/net/ipv4/tcp_keepalive_intvl", |kernel| {
        host(kernel, "net/ipv4/tcp_keepalive_intvl", b"75")
    }),
    control("sys/net/ipv4/tcp_keepalive_probes", |kernel| {
        host(kernel, "net/ipv4/tcp_keepalive_probes", b"9")
    }),
    control("sys/net/ipv4/tcp_keepalive_time", |kernel| {
        host(kernel, "net/ipv4/tcp_keepalive_time", b"7200")
    }),
    control("sys/net/ipv4/tcp_max_syn_backlog", |kernel| {
        host(kernel, "net/ipv4/tcp_max_syn_backlog", b"1024")
    }),
    control("sys/net/ipv4/tcp_syncookies", |kernel| {
        host(kernel, "net/ipv4/tcp_syncookies", b"1")
    }),
    control("sys/net/ipv4/tcp_tw_reuse", |kernel| {
        host(kernel, "net/ipv4/tcp_tw_reuse", b"2")
    }),
    control("sys/net/ipv4/tcp_rmem", |kernel| {
        host(kernel, "net/ipv4/tcp_rmem", b"4096\t131072\t6291456")
    }),
    control("sys/net/ipv4/tcp_wmem", |kernel| {
        host(kernel, "net/ipv4/tcp_wmem", b"4096\t16384\t4194304")
    }),
    directory("sys/net/ipv6"),
    directory("sys/net/ipv6/conf"),
    directory("sys/net/ipv6/conf/all"),
    control("sys/net/ipv6/conf/all/disable_ipv6", |kernel| {
        host(kernel, "net/ipv6/conf/all/disable_ipv6", b"0")
    }),
    directory("sys/net/ipv6/conf/default"),
    control("sys/net/ipv6/conf/default/disable_ipv6", |kernel| {
        host(kernel, "net/ipv6/conf/default/disable_ipv6", b"0")
    }),
    directory("sys/user"),
    control("sys/user/max_user_namespaces", |_| line(b"0")),
    directory("sys/vm"),
    control("sys/vm/max_map_count", |kernel| {
        let host =
            crate::kernel::machine::read_below(&kernel.host_proc, "sys/vm/max_map_count", 32);
        host.unwrap_or_else(|| line(b"65530"))
    }),
    control("sys/vm/min_free_kbytes", |_| line(b"4096")),
    control("sys/vm/mmap_min_addr", |_| line(b"65536")),
    control("sys/vm/nr_hugepages", |_| line(b"0")),
    control("sys/vm/overcommit_memory", |kernel| {
        let host =
            crate::kernel::machine::read_below(&kernel.host_proc, "sys/vm/overcommit_memory", 32);
        host.unwrap_or_else(|| line(b"0"))
    }),
    control("sys/vm/overcommit_ratio", |_| line(b"50")),
    control("sys/vm/swappiness", |_| line(b"60")),
];

/// A random one. RFC 9562, version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// How many CPUs masks have bits for.
pub fn possible(kernel: &Kernel) -> usize {
    kernel.machine.mask_bits
}

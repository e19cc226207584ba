//! The arguments of a call, decoded by the names that they have in the table: those that go in when it is made, those that come out when it is over.

use super::constants::{reading, shown};
use super::numbers;
use super::structures::{self as look, Show};
use crate::memory::{Address, Memory};
use crate::syscalls::table::{Argument, Row};

/// One argument, as far as it is known.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    Now(String),
    /// Filled in by the call.
    After(After),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct After {
    address: Address,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// As many bytes as the call returns.
    Data,
    /// As many entries of so many pieces as the call returns bytes.
    Vector(usize),
    /// Up to its NUL.
    Text,
    Structure(Show),
    /// As many entries as the call returns.
    Entries(Show),
    /// A socket address, whose length lies here.
    Address(Address),
}

pub(super) struct Decoder {
    pub memory: Memory,
    /// Bytes of a string that are shown.
    pub limit: usize,
}

impl Decoder {
    /// Of a call that is about to be handled.
    pub(super) fn arguments(&self, row: &Row, registers: &[u64; 6]) -> Vec<Shown> {
        let arguments = row.arguments.iter().zip(registers);
        arguments
            .map(|(argument, value)| self.argument(row, registers, argument, *value))
            .collect()
    }

    fn argument(&self, row: &Row, registers: &[u64; 6], argument: &Argument, value: u64) -> Shown {
        if argument.kind != "Address" {
            return Shown::Now(scalar(row.name, argument, value));
        }
        let address = Address(value);
        if address.is_null() {
            return Shown::Now("NULL".to_owned());
        }
        // The number of entries or bytes is the argument behind the address.
        let at = row
            .arguments
            .iter()
            .position(|other| other.name == argument.name);
        let next = at
            .and_then(|at| registers.get(at + 1))
            .copied()
            .unwrap_or(0);
        let len = usize::try_from(next).unwrap_or(usize::MAX);
        if let Some(how) = coming_out(row.name, argument.name, registers) {
            return Shown::After(After { address, how });
        }
        let text = self.going_in(row.name, argument.name, address, len);
        Shown::Now(text.unwrap_or_else(|| (argument.show)(value)))
    }

    /// `None`: it is not known what lies there, or it is not there.
    fn going_in(&self, call: &str, name: &str, at: Address, len: usize) -> Option<String> {
        let (memory, limit) = (self.memory, self.limit);
        let short = (len & 0xFFFF_FFFF).min(1 << 20);
        match (call, name) {
            ("sethostname" | "setdomainname", "name") => look::data(memory, at, short, limit),
            ("write" | "pwrite64" | "sendto", "buf")
            | ("mq_timedsend", "message")
            | ("setxattr" | "lsetxattr" | "fsetxattr", "data") => {
                look::data(memory, at, len, limit)
            }
            ("writev" | "pwritev" | "pwritev2" | "vmsplice", "iov")
            | ("process_vm_writev", "local") => look::vector(memory, at, len, usize::MAX, limit),
            (_, "argv") => look::strings(memory, at, limit),
            (_, "envp") => look::how_many(memory, at, 0),
            // Paths are shown whole, as far as lines go.
            (_, "path" | "name" | "target") => look::string(memory, at, limit.max(256)),
            ("rename" | "renameat" | "renameat2" | "link" | "linkat", "from" | "to") => {
                look::string(memory, at, limit.max(256))
            }
            ("connect" | "bind", "address") => look::socket_address(memory, at, short),
            ("poll" | "ppoll", "fds") => look::poll(memory, at, short),
            ("epoll_ctl", "event") => look::one_epoll(memory, at, 0),
            ("select", "timeout") => look::timeval(memory, at, 0),
            (_, "timeout" | "request") => look::timespec(memory, at, 0),
            ("clock_settime", "time") => look::timespec(memory, at, 0),
            ("utimensat", "times") => look::times(memory, at, 0),
            ("timer_settime" | "timerfd_settime", "new") => look::itimerspec(memory, at, 0),
            ("setitimer", "new") => look::itimerval(memory, at, 0),
            ("setrlimit", "limit") | ("prlimit64", "new") => look::limit(memory, at, 0),
            ("rt_sigaction", "act") => look::action(memory, at, 0),
            ("rt_sigprocmask" | "rt_sigtimedwait", "set") => look::signals(memory, at, 0),
            (
                "rt_sigsuspend" | "ppoll" | "epoll_pwait" | "epoll_pwait2" | "signalfd"
                | "signalfd4",
                "mask",
            ) => look::signals(memory, at, 0),
            ("sendfile", "offset") | (_, "from_offset" | "to_offset") => {
                look::offset(memory, at, 0)
            }
            _ => return None,
        }
        .ok()
    }

    /// Of a call that is over; `None` for its result: it failed.
    pub(super) fn after(&self, after: After, result: Option<i64>) -> String {
        let (memory, limit, at) = (self.memory, self.limit, after.address);
        let count = result.and_then(|result| usize::try_from(result).ok());
        let text = count.and_then(|count| {
            match after.how {
                How::Data => look::data(memory, at, count, limit),
                How::Vector(pieces) => look::vector(memory, at, pieces, count, limit),
                How::Text => look::string(memory, at, limit.max(256)),
                How::Structure(show) => show(memory, at, 0),
                How::Entries(show) => show(memory, at, count),
                How::Address(len) => memory
                    .read_u32(len)
                    .and_then(|len| look::socket_address(memory, at, len as usize)),
            }
            .ok()
        });
        text.unwrap_or_else(|| format!("{:#x}", at.0))
    }
}

/// What the call writes there, if it is known.
fn coming_out(call: &str, name: &str, registers: &[u64; 6]) -> Option<How> {
    let pieces = || usize::try_from(registers[2]).unwrap_or(usize::MAX);
    Some(match (call, name) {
        ("read" | "pread64" | "recvfrom" | "getrandom" | "readlink" | "readlinkat", "buf")
        | ("getxattr" | "lgetxattr" | "fgetxattr", "data")
        | ("listxattr" | "llistxattr" | "flistxattr", "list")
        | ("mq_timedreceive", "message") => How::Data,
        ("readv" | "preadv" | "preadv2", "iov") => How::Vector(pieces()),
        ("process_vm_readv", "local") => How::Vector(pieces()),
        ("getcwd", "buf") => How::Text,
        (_, "statbuf") => How::Structure(look::stat),
        (_, "statxbuf") => How::Structure(look::statx),
        ("pipe" | "pipe2" | "socketpair", "fds") => How::Structure(look::two_descriptors),
        ("wait4", "status") => How::Structure(look::wait_status),
        ("rt_sigaction", "oldact") => How::Structure(look::action),
        ("rt_sigprocmask", "oldset") | ("rt_sigpending", "set") => How::Structure(look::signals),
        ("clock_gettime", "time") | (_, "resolution" | "interval") => {
            How::Structure(look::timespec)
        }
        ("gettimeofday", "time") => How::Structure(look::timeval),
        ("timer_gettime" | "timerfd_gettime", "current")
        | ("timer_settime" | "timerfd_settime", "old") => How::Structure(look::itimerspec),
        ("getitimer", "current") | ("setitimer", "old") => How::Structure(look::itimerval),
        ("getrlimit", "limit") | ("prlimit64", "old") => How::Structure(look::limit),
        ("timer_create", "id") => How::Structure(look::integer),
        (_, "real" | "effective" | "saved") => How::Structure(look::integer),
        ("getgroups", "list") => How::Entries(look::ids),
        ("epoll_wait" | "epoll_pwait" | "epoll_pwait2", "events") => How::Entries(look::epoll),
        ("accept" | "accept4" | "getsockname" | "getpeername", "address") => {
            How::Address(Address(registers[2]))
        }
        ("recvfrom", "address") => How::Address(Address(registers[5])),
        _ => return None,
    })
}

/// A number: by its names, a directory's descriptor, permissions, or as the table's type has it.
fn scalar(call: &str, argument: &Argument, value: u64) -> String {
    let is_half = matches!(argument.kind, "i32" | "u32" | "Flags");
    let value = if is_half { value & 0xFFFF_FFFF } else { value };
    if let Some(reading) = reading(call, argument.name) {
        let is_other_signal = matches!(argument.name, "signal" | "signum") && value > 31;
        return if is_other_signal {
            numbers::signal(value as i32)
        } else {
            shown(reading, value)
        };
    }
    match argument.name {
        "directory" | "from_directory" | "to_directory" if value as i32 == libc::AT_FDCWD => {
            "AT_FDCWD".to_owned()
        }
        "mode" | "mask" if argument.kind == "u32" && value != 0 => format!("0{value:o}"),
        _ => (argument.show)(value),
    }
}

/// Whether the call returns an address.
pub(super) fn returns_address(call: &str) -> bool {
    matches!(call, "mmap" | "shmat" | "mremap" | "brk")
}

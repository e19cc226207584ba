//! Names of error numbers and signals.

use super::constants::Names;

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name as u32 as u64, stringify!($name))),*] };
}

const ERRORS: Names = names!(
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE
    EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ENOSTR ENODATA
    ETIME ENOSR ENOLINK EPROTO EBADMSG EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT
    EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN
    ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED EOWNERDEAD ENOTRECOVERABLE
);

pub(super) const SIGNALS: Names = names!(
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP
    SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
);

const RESTARTS: Names = &[
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (516, "ERESTART_RESTARTBLOCK"),
];

/// Of an error number.
pub(super) fn error(number: i32) -> String {
    let value = u64::from(number.unsigned_abs());
    let found = ERRORS
        .iter()
        .chain(RESTARTS)
        .find(|(other, _)| *other == value);
    found.map_or_else(|| format!("E{number}"), |(_, name)| (*name).to_owned())
}

/// As strerror(3).
pub(super) fn description(number: i32) -> String {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Of a signal; real-time ones by their distance from the first.
pub(super) fn signal(number: i32) -> String {
    let value = u64::from(number.unsigned_abs());
    let found = SIGNALS.iter().find(|(other, _)| *other == value);
    match found {
        Some((_, name)) => (*name).to_owned(),
        None if (32..=64).contains(&number) => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

/// A set's members without SIG, as strace(1) writes it.
pub(super) fn set(bits: u64) -> String {
    let members = (1..=64).filter(|number| bits >> (number - 1) & 1 == 1);
    let names: Vec<String> = members
        .map(|number| signal(number).trim_start_matches("SIG").to_owned())
        .collect();
    if names.len() > 32 {
        let missing = (1..=64).filter(|number| bits >> (number - 1) & 1 == 0);
        let names: Vec<String> = missing
            .map(|number| signal(number).trim_start_matches("SIG").to_owned())
            .collect();
        return format!("~[{}]", names.join(" "));
    }
    format!("[{}]", names.join(" "))
}

/// wait(2)'s status.
pub(super) fn status(status: i32) -> String {
    let number = status & 0x7F;
    if status & 0xFFFF == 0xFFFF {
        "continued".to_owned()
    } else if status & 0xFF == 0x7F {
        format!("stopped by {}", signal(status >> 8 & 0xFF))
    } else if number != 0 {
        let core = if status & 0x80 == 0 { "" } else { " (core)" };
        format!("killed by {}{core}", signal(number))
    } else {
        format!("exited with {}", status >> 8 & 0xFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_names() {
        assert_eq!(error(libc::ENOENT), "ENOENT");
        assert_eq!(error(9999), "E9999");
        assert_eq!(set(1 << 16 | 1 << 1), "[INT CHLD]");
        assert_eq!(set(!0), "~[]");
        assert_eq!(status(0x0700), "exited with 7");
        assert_eq!(status(11 | 0x80), "killed by SIGSEGV (core)");
    }
}

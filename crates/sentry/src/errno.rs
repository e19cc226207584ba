//! Linux's error numbers, as the sentry passes them around.

use std::io;

/// An error number, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)*) => { impl Errno { $(pub const $name: Self = Self(libc::$name);)* } };
}
errnos! {
    E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBUSY ECHILD ECONNABORTED ECONNREFUSED ECONNRESET EDESTADDRREQ EDOM EEXIST EFAULT EFBIG
    EIDRM EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE EMSGSIZE ENAMETOOLONG ENFILE ENODATA ENODEV ENOENT ENOEXEC ENOMEM ENOMSG ENOPROTOOPT
    ENOSPC ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTSOCK ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTONOSUPPORT EPROTOTYPE ESOCKTNOSUPPORT ETOOMANYREFS ERANGE EROFS
    ESPIPE ESRCH ETIMEDOUT ETXTBSY EXDEV
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

pub type Result<T> = std::result::Result<T, Errno>;

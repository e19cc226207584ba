//! Files: places in the tree, open file descriptions, and one file or folder per kind of file.
//!
//! The tree of regular files is the host's: the sentry stands in a mount namespace that `init` built from the plan, so binds, overlays, tmpfs, read-only and
//! masked paths are the host's own, and walking it one component at a time can reach nothing else. What programs must not see of the host there
//! (proc, sysfs, devpts, mqueue) is known by its file system's magic number and answered by the sentry's own trees.

pub mod anonymous;
pub mod attributes;
pub mod by_path;
pub mod cache;
pub mod confined;
pub mod context;
mod deferred;
pub mod description;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod fasync;
pub mod fd_table;
pub mod file;
pub mod host;
pub mod host_events;
pub mod host_ioctl;
pub mod mqueue;
pub mod pidfd;
pub mod pipe;
pub mod place;
pub mod proc;
pub mod signalfd;
pub mod socket;
pub mod stream;
pub mod timerfd;
pub mod tty;
pub mod walk;
pub mod windows;

/// Does what files noted for this kernel: to be called before a call is answered.
pub fn settle(kernel: &mut crate::kernel::Kernel) {
    tty::events::settle(kernel);
    fasync::settle(kernel);
}

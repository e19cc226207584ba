//! Calls that a container's programs are refused, with the answer that one without privileges gets under docker's default profile. Nothing is read of their
//! arguments: the refusal comes first there, too.

use super::{Cx, SysResult};
use crate::errno::Errno;

macro_rules! refused {
    ($($errno:ident: $($name:ident)*;)*) => {
        $($(
            pub fn $name(_cx: &mut Cx<'_>) -> SysResult {
                Err(Errno::$errno)
            }
        )*)*
    };
}

refused! {
    // The tree is the plan's.
    EPERM: mount umount2 pivot_root open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr quotactl quotactl_fd open_by_handle_at;
    // The machine is the host's.
    EPERM: acct swapon swapoff reboot vhangup syslog iopl ioperm init_module finit_module delete_module kexec_load kexec_file_load lookup_dcookie;
    // Large parts of a kernel that a program can do without.
    EPERM: bpf perf_event_open userfaultfd add_key request_key keyctl kcmp process_madvise process_mrelease migrate_pages move_pages fanotify_init io_uring_setup io_uring_enter io_uring_register;
    // File handles would name files without walking to them.
    EOPNOTSUPP: name_to_handle_at;
    // As a kernel built without them.
    ENOSYS: modify_ldt landlock_create_ruleset landlock_add_rule landlock_restrict_self;
}

/// No descriptor is a fanotify group's.
pub fn fanotify_mark(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    cx.open_description(fd)?;
    Err(Errno::EINVAL)
}

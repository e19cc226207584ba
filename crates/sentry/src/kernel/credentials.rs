//! Who a thread is: ids, groups, capabilities. credentials(7), capabilities(7).

/// A thread's credentials. Immutable: a change makes a new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub keep_capabilities: bool,
    pub no_new_privs: bool,
    /// PR_SET_SECUREBITS, without KEEP_CAPS.
    pub securebits: u32,
    /// The program's own seccomp filters, newest first; inherited and kept as the rest is.
    pub filters: Option<std::sync::Arc<super::filters::Chain>>,
}

pub const CAP_CHOWN: u32 = 0;
pub const CAP_DAC_OVERRIDE: u32 = 1;
pub const CAP_DAC_READ_SEARCH: u32 = 2;
pub const CAP_FOWNER: u32 = 3;
pub const CAP_FSETID: u32 = 4;
pub const CAP_KILL: u32 = 5;
pub const CAP_SETGID: u32 = 6;
pub const CAP_SETUID: u32 = 7;
pub const CAP_SETPCAP: u32 = 8;
pub const CAP_SYS_CHROOT: u32 = 18;
pub const CAP_SYS_PTRACE: u32 = 19;
pub const CAP_SYS_ADMIN: u32 = 21;
pub const CAP_SYS_RESOURCE: u32 = 24;
pub const CAP_AUDIT_CONTROL: u32 = 30;
/// capabilities 0 to CAP_CHECKPOINT_RESTORE.
pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

pub const MAY_EXEC: u32 = 1;
pub const MAY_WRITE: u32 = 2;
pub const MAY_READ: u32 = 4;

impl Credentials {
    #[must_use]
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups,
            permitted: 0,
            effective: 0,
            inheritable: 0,
            bounding: 0,
            ambient: 0,
            keep_capabilities: false,
            no_new_privs: false,
            securebits: 0,
            filters: None,
        }
    }

    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.effective >> capability & 1 == 1
    }

    #[must_use]
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }

    /// Whether a file of this owner and mode may be used so (`MAY_*`). path_resolution(7), "Permissions"; generic_permission().
    #[must_use]
    pub fn may(&self, wanted: u32, mode: u32, uid: u32, gid: u32) -> bool {
        let granted = if self.fsuid == uid {
            mode >> 6
        } else if self.in_group(gid) {
            mode >> 3
        } else {
            mode
        } & 7;
        if granted & wanted == wanted {
            return true;
        }
        let directory = mode & libc::S_IFMT == libc::S_IFDIR;
        if self.has(CAP_DAC_OVERRIDE) && (wanted & MAY_EXEC == 0 || directory || mode & 0o111 != 0)
        {
            return true;
        }
        self.has(CAP_DAC_READ_SEARCH)
            && (wanted == MAY_READ || (directory && wanted & MAY_WRITE == 0))
    }

    #[must_use]
    pub fn owns(&self, uid: u32) -> bool {
        self.fsuid == uid || self.has(CAP_FOWNER)
    }
}

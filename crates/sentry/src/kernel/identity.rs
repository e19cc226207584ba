//! How credentials change: ids, the capabilities that follow them, and what execve makes of both. credentials(7), capabilities(7).

use super::credentials::{ALL_CAPABILITIES, CAP_SETGID, CAP_SETUID, Credentials};
use crate::errno::{Errno, Result};

/// prctl(2), PR_SET_SECUREBITS; each has a lock one bit above.
pub const SECBIT_NOROOT: u32 = 1;
pub const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
pub const SECBIT_KEEP_CAPS: u32 = 1 << 4;
pub const SECBIT_KEEP_CAPS_LOCKED: u32 = 1 << 5;
pub const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
/// All of the above and NOROOT_LOCKED, NO_SETUID_FIXUP_LOCKED, NO_CAP_AMBIENT_RAISE_LOCKED.
pub const SECBITS: u32 = 0xFF;

/// Capabilities that go with fsuid 0: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE. Linux: CAP_FS_MASK.
const FILE_CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32;

/// An id argument: all ones leaves it as it is.
const KEEP: u32 = u32::MAX;

impl Credentials {
    pub fn set_uid(&mut self, uid: u32) -> Result<()> {
        if uid == KEEP {
            return Err(Errno::EINVAL);
        }
        let old = self.clone();
        if self.has(CAP_SETUID) {
            (self.uid, self.suid) = (uid, uid);
        } else if uid != self.uid && uid != self.suid {
            return Err(Errno::EPERM);
        }
        (self.euid, self.fsuid) = (uid, uid);
        self.fix_capabilities(&old);
        Ok(())
    }

    pub fn set_gid(&mut self, gid: u32) -> Result<()> {
        if gid == KEEP {
            return Err(Errno::EINVAL);
        }
        if self.has(CAP_SETGID) {
            (self.gid, self.sgid) = (gid, gid);
        } else if gid != self.gid && gid != self.sgid {
            return Err(Errno::EPERM);
        }
        (self.egid, self.fsgid) = (gid, gid);
        Ok(())
    }

    pub fn set_reuid(&mut self, real: u32, effective: u32) -> Result<()> {
        let old = self.clone();
        let privileged = self.has(CAP_SETUID);
        if real != KEEP && ![old.uid, old.euid].contains(&real) && !privileged {
            return Err(Errno::EPERM);
        }
        if effective != KEEP && ![old.uid, old.euid, old.suid].contains(&effective) && !privileged {
            return Err(Errno::EPERM);
        }
        put(&mut self.uid, real);
        put(&mut self.euid, effective);
        if real != KEEP || (effective != KEEP && effective != old.uid) {
            self.suid = self.euid;
        }
        self.fsuid = self.euid;
        self.fix_capabilities(&old);
        Ok(())
    }

    pub fn set_regid(&mut self, real: u32, effective: u32) -> Result<()> {
        let old = (self.gid, self.egid, self.sgid);
        let privileged = self.has(CAP_SETGID);
        if real != KEEP && ![old.0, old.1].contains(&real) && !privileged {
            return Err(Errno::EPERM);
        }
        if effective != KEEP && ![old.0, old.1, old.2].contains(&effective) && !privileged {
            return Err(Errno::EPERM);
        }
        put(&mut self.gid, real);
        put(&mut self.egid, effective);
        if real != KEEP || (effective != KEEP && effective != old.0) {
            self.sgid = self.egid;
        }
        self.fsgid = self.egid;
        Ok(())
    }

    pub fn set_resuid(&mut self, ids: [u32; 3]) -> Result<()> {
        let old = self.clone();
        let own = [old.uid, old.euid, old.suid];
        if ids.iter().any(|id| *id != KEEP && !own.contains(id)) && !self.has(CAP_SETUID) {
            return Err(Errno::EPERM);
        }
        put(&mut self.uid, ids[0]);
        put(&mut self.euid, ids[1]);
        put(&mut self.suid, ids[2]);
        self.fsuid = self.euid;
        self.fix_capabilities(&old);
        Ok(())
    }

    pub fn set_resgid(&mut self, ids: [u32; 3]) -> Result<()> {
        let own = [self.gid, self.egid, self.sgid];
        if ids.iter().any(|id| *id != KEEP && !own.contains(id)) && !self.has(CAP_SETGID) {
            return Err(Errno::EPERM);
        }
        put(&mut self.gid, ids[0]);
        put(&mut self.egid, ids[1]);
        put(&mut self.sgid, ids[2]);
        self.fsgid = self.egid;
        Ok(())
    }

    /// Sets the id that file permissions go by; what is not allowed changes nothing, silently. setfsuid(2).
    pub fn set_fsuid(&mut self, uid: u32) {
        let own = [self.uid, self.euid, self.suid, self.fsuid];
        if uid == KEEP || (!own.contains(&uid) && !self.has(CAP_SETUID)) {
            return;
        }
        let old = std::mem::replace(&mut self.fsuid, uid);
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        if old == 0 && uid != 0 {
            self.effective &= !FILE_CAPABILITIES;
        } else if old != 0 && uid == 0 {
            self.effective |= self.permitted & FILE_CAPABILITIES;
        }
    }

    pub fn set_fsgid(&mut self, gid: u32) {
        let own = [self.gid, self.egid, self.sgid, self.fsgid];
        if gid != KEEP && (own.contains(&gid) || self.has(CAP_SETGID)) {
            self.fsgid = gid;
        }
    }

    /// Linux: cap_emulate_setxuid().
    fn fix_capabilities(&mut self, old: &Self) {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        let was_root = [old.uid, old.euid, old.suid].contains(&0);
        let is_root = [self.uid, self.euid, self.suid].contains(&0);
        if was_root && !is_root {
            if !self.keep_capabilities {
                (self.permitted, self.effective) = (0, 0);
            }
            // Ambient ones are never meant to outlive root, whatever is kept.
            self.ambient = 0;
        }
        if old.euid == 0 && self.euid != 0 {
            self.effective = 0;
        }
        if old.euid != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
    }

    /// What a program file does to who executes it. Linux: bprm_fill_uid(), cap_bprm_creds_from_file(). Returns the new credentials and whether the
    /// program runs with rights that its caller's user did not have (AT_SECURE).
    #[must_use]
    pub fn after_exec(&self, file: &Program) -> (Self, bool) {
        let mut new = self.clone();
        let honours = file.honours_set_id && !self.no_new_privs;
        if honours && file.mode & libc::S_ISUID != 0 {
            new.euid = file.uid;
        }
        let sets_group = libc::S_ISGID | libc::S_IXGRP;
        if honours && file.mode & sets_group == sets_group {
            new.egid = file.gid;
        }
        let changed_id = new.euid != self.euid || new.egid != self.egid;
        let capabilities = file.capabilities.filter(|_| honours);
        let from_file = new.take_file_capabilities(capabilities);
        if changed_id || from_file {
            new.ambient = 0;
        }
        new.permitted |= new.ambient;
        new.effective = if new.effective_at_exec(capabilities) {
            new.permitted
        } else {
            new.ambient
        };
        (new.suid, new.fsuid) = (new.euid, new.euid);
        (new.sgid, new.fsgid) = (new.egid, new.egid);
        new.keep_capabilities = false;
        let is_root = new.uid == 0;
        let gained = new.permitted & !new.ambient != 0 && !is_root;
        let is_secure =
            new.euid != new.uid || new.egid != new.gid || (gained && (from_file || new.euid != 0));
        (new, is_secure)
    }

    /// Whether a program that runs with these, executed by who had `old`, may be looked into. Linux: begin_new_exec(), commit_creds().
    #[must_use]
    pub fn is_dumpable_after(&self, old: &Self) -> bool {
        let ids = |who: &Self| (who.euid, who.egid, who.fsuid, who.fsgid);
        self.euid == self.uid
            && self.egid == self.gid
            && ids(self) == ids(old)
            && self.permitted & !old.permitted == 0
    }

    /// Sets `permitted` from the file's sets, or from root's; tells whether the file had any.
    fn take_file_capabilities(&mut self, file: Option<FileCapabilities>) -> bool {
        let is_root = (self.uid == 0 || self.euid == 0) && self.securebits & SECBIT_NOROOT == 0;
        let sets = if is_root {
            // A set-user-ID program of root with capabilities of its own keeps to those (cap: "handle_privileged_root").
            match file {
                Some(file) if self.uid != 0 => (file.permitted, file.inheritable),
                _ => (ALL_CAPABILITIES, ALL_CAPABILITIES),
            }
        } else {
            file.map_or((0, 0), |file| (file.permitted, file.inheritable))
        };
        self.permitted = (self.inheritable & sets.1) | (self.bounding & sets.0);
        file.is_some()
    }

    fn effective_at_exec(&self, file: Option<FileCapabilities>) -> bool {
        let is_root = self.euid == 0 && self.securebits & SECBIT_NOROOT == 0;
        is_root || file.is_some_and(|file| file.is_effective)
    }
}

fn put(id: &mut u32, new: u32) {
    if new != KEEP {
        *id = new;
    }
}

/// What execve looks at of a program's file.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Its mount is not nosuid.
    pub honours_set_id: bool,
    pub capabilities: Option<FileCapabilities>,
}

/// `security.capability` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCapabilities {
    pub permitted: u64,
    pub inheritable: u64,
    pub is_effective: bool,
}

impl FileCapabilities {
    /// Revision 2 of the attribute, which the host also makes of a revision 3 that is this user namespace's. linux/capability.h, vfs_cap_data.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        const REVISION: u32 = 0x0200_0000;
        let bytes: &[u8; 20] = bytes.try_into().ok()?;
        let half = |at: usize| u64::from(crate::memory::half(bytes, at));
        let magic = half(0) as u32;
        (magic & 0xFF00_0000 == REVISION).then(|| Self {
            permitted: (half(4) | half(12) << 32) & ALL_CAPABILITIES,
            inheritable: (half(8) | half(16) << 32) & ALL_CAPABILITIES,
            is_effective: magic & 1 != 0,
        })
    }
}

//! System V IPC: what semaphores and message queues share, and shared memory. sysvipc(7).
//!
//! Shared memory is the host's own, in the ipc namespace that the sandbox's programs were born in and that nobody else is in: mapping it is an act on the
//! program's address space, which only the host's kernel can do. Nothing of it waits, and its arguments are checked in registers; what shmctl reads from
//! memory concerns that namespace alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::arguments::Flags;
use super::{Cx, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_DAC_OVERRIDE, CAP_SYS_ADMIN, Credentials};
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, half};
use crate::syscalls::sysv_messages::Messages;
use crate::syscalls::sysv_semaphores::Semaphores;

pub const IPC_RMID: i32 = 0;
pub const IPC_SET: i32 = 1;
pub const IPC_STAT: i32 = 2;
pub const IPC_INFO: i32 = 3;
/// Objects of one kind in a sandbox. Linux: SEMMNI, MSGMNI.
const MOST_OBJECTS: usize = 32_000;
const CAP_IPC_OWNER: u32 = 15;
/// `struct ipc64_perm`.
const PERMISSIONS: usize = 48;

/// One semaphore set or message queue: its key, owner and mode, and who waits for it.
#[derive(Debug)]
pub struct Object<T> {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub creator: (u32, u32),
    pub mode: u32,
    pub changed: i64,
    pub queue: Arc<WaitQueue>,
    pub value: T,
}

#[derive(Debug)]
pub struct Table<T> {
    objects: BTreeMap<i32, Object<T>>,
    next: i32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            next: 0,
        }
    }
}

#[derive(Debug, Default)]
pub struct Objects {
    pub semaphores: Table<Semaphores>,
    pub messages: Table<Messages>,
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

impl<T> Object<T> {
    /// Linux: ipcperms(). `wanted`: the bits of one class, 4 to read and 2 to alter.
    pub fn check(&self, who: &Credentials, wanted: u32) -> Result<()> {
        let granted = if [self.uid, self.creator.0].contains(&who.euid) {
            self.mode >> 6
        } else if [self.gid, self.creator.1]
            .iter()
            .any(|gid| *gid == who.egid || who.groups.contains(gid))
        {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 7 == 0 || who.has(CAP_IPC_OWNER) || who.has(CAP_DAC_OVERRIDE) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn check_owner(&self, who: &Credentials) -> Result<()> {
        if [self.uid, self.creator.0].contains(&who.euid) || who.has(CAP_SYS_ADMIN) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// `struct ipc64_perm`.
    pub fn permissions(&self, id: i32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PERMISSIONS);
        for word in [
            self.key.cast_unsigned(),
            self.uid,
            self.gid,
            self.creator.0,
            self.creator.1,
            self.mode,
        ] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend((id as u16 as u32 / 32_768).to_le_bytes());
        bytes.resize(PERMISSIONS, 0);
        bytes
    }

    /// IPC_SET: owner, group and mode, from `struct ipc64_perm`.
    pub fn set(&mut self, who: &Credentials, permissions: &[u8]) -> Result<()> {
        self.check_owner(who)?;
        (self.uid, self.gid) = (half(permissions, 4), half(permissions, 8));
        self.mode = self.mode & !0o777 | half(permissions, 20) & 0o777;
        self.changed = now();
        Ok(())
    }
}

impl<T> Table<T> {
    pub fn values(&self) -> impl Iterator<Item = &Object<T>> {
        self.objects.values()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Object<T>> {
        self.objects.values_mut()
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.objects.len()
    }

    /// What the commands that walk all objects end at: here an object's index is its identifier.
    #[must_use]
    pub fn highest_id(&self) -> i32 {
        self.objects.last_key_value().map_or(0, |(id, _)| *id)
    }

    pub fn get(&mut self, id: i32) -> Result<&mut Object<T>> {
        self.objects.get_mut(&id).ok_or(Errno::EINVAL)
    }

    /// The object of a key, or a new one, as flags say. semget(2), msgget(2).
    pub fn find_or_make(
        &mut self,
        key: i32,
        flags: Flags,
        who: &Credentials,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<i32> {
        let found = self
            .objects
            .iter()
            .find(|(_, object)| key != libc::IPC_PRIVATE && object.key == key);
        if let Some((id, object)) = found {
            if flags.has(libc::IPC_CREAT) && flags.has(libc::IPC_EXCL) {
                return Err(Errno::EEXIST);
            }
            fits(&object.value)?;
            let wanted = flags.0 >> 6 | flags.0 >> 3 | flags.0;
            object.check(who, wanted & 7)?;
            return Ok(*id);
        }
        if key != libc::IPC_PRIVATE && !flags.has(libc::IPC_CREAT) {
            return Err(Errno::ENOENT);
        }
        let value = make()?;
        if self.objects.len() >= MOST_OBJECTS {
            return Err(Errno::ENOSPC);
        }
        let id = self.next;
        self.next = self.next.checked_add(1).unwrap_or(0);
        let object = Object {
            key,
            uid: who.euid,
            gid: who.egid,
            creator: (who.euid, who.egid),
            mode: flags.0 & 0o777,
            changed: now(),
            queue: Arc::new(WaitQueue::default()),
            value,
        };
        self.objects.insert(id, object);
        Ok(id)
    }

    /// IPC_RMID: who waits for it gets EIDRM.
    pub fn remove(&mut self, id: i32, who: &Credentials) -> Result<()> {
        self.get(id)?.check_owner(who)?;
        if let Some(object) = self.objects.remove(&id) {
            object.queue.wake();
        }
        Ok(())
    }
}

pub fn shmget(_cx: &mut Cx<'_>, _key: i32, _size: usize, flags: Flags) -> SysResult {
    // Huge pages are the host's to share out.
    if flags.has(libc::SHM_HUGETLB) {
        return Err(Errno::EPERM);
    }
    Ok(Outcome::Native)
}

pub fn shmat(_cx: &mut Cx<'_>, _id: i32, _address: Address, _flags: Flags) -> SysResult {
    Ok(Outcome::Native)
}

pub fn shmdt(_cx: &mut Cx<'_>, _address: Address) -> SysResult {
    Ok(Outcome::Native)
}

pub fn shmctl(_cx: &mut Cx<'_>, _id: i32, command: i32, _buf: Address) -> SysResult {
    const LAST: i32 = 15;
    if (0..=LAST).contains(&command) {
        Ok(Outcome::Native)
    } else {
        Err(Errno::EINVAL)
    }
}

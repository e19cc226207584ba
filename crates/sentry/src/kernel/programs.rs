//! Files that were executed lately: their headers, parsed, and a descriptor to map them by. What is kept is of the file's contents alone, and is believed
//! only of the same file with the same times and size; who may execute it is asked each time.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::StatVfsMountFlags;

use super::elf::Elf;
use super::identity::FileCapabilities;
use crate::vfs::attributes::Attributes;

/// How many are kept, the last used: each has a descriptor and some 300 bytes.
const MOST: usize = 64;
/// A file that was changed so lately could be changed again without its times telling. Seconds.
const SETTLED_S: i64 = 2;

/// What executing a file leads to.
#[derive(Debug)]
pub enum Contents {
    /// A `#!` line: the interpreter and its argument.
    Script(Vec<u8>, Option<Vec<u8>>),
    /// An ELF program, and its interpreter's name.
    Elf(Arc<Elf>, Option<Vec<u8>>),
}

#[derive(Debug)]
pub struct Program {
    pub fd: Arc<OwnedFd>,
    pub contents: Contents,
    pub mount_flags: StatVfsMountFlags,
    pub capabilities: Option<FileCapabilities>,
}

type Key = (u64, u64, u64, u64, [(i64, u32); 2]);

fn key(file: &Attributes) -> Key {
    (
        file.mount,
        file.dev,
        file.ino,
        file.size,
        [file.times[1], file.times[2]],
    )
}

/// The last used last.
#[derive(Debug, Default)]
pub struct Programs(Mutex<Vec<(Key, Arc<Program>)>>);

impl Programs {
    #[must_use]
    pub fn get(&self, file: &Attributes) -> Option<Arc<Program>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = key(file);
        let at = kept.iter().rposition(|(key, _)| *key == wanted)?;
        let found = kept.remove(at);
        let program = found.1.clone();
        kept.push(found);
        Some(program)
    }

    /// Keeps it, unless the file is still being changed.
    pub fn add(&self, file: &Attributes, program: &Arc<Program>) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
        let changed = file.times[1].0.max(file.times[2].0);
        if changed.saturating_add(SETTLED_S) > now {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.remove(0);
        }
        kept.push((key(file), program.clone()));
    }
}

//! What the stub answers by itself: getuid(2) and its like, from numbers that the sentry keeps right in the process's own memory.
//! A program can change them, and then lies to itself alone.

use casemate_platform::loader;

use super::space::{Ids, Space};
use crate::kernel::Kernel;
use crate::kernel::credentials::Credentials;
use crate::kernel::task::Shared;
use crate::memory::{Address, Memory};

fn ids_of(who: &Credentials) -> [u32; 4] {
    [who.uid, who.gid, who.euid, who.egid]
}

impl Kernel {
    /// A thread's credentials have changed.
    pub fn ids_changed(&mut self, tid: i32) {
        let Ok(task) = self.task(tid) else { return };
        if let Some(slot) = &task.slot {
            self.files.answers.open(&slot.channel, slot.index);
        }
        let mut space = task.space.lock();
        let is_shared = space.host.is_some() || space.had_guest;
        if is_shared || task.credentials.filters.is_some() {
            forget(&mut space);
        }
        drop(space);
        self.write_ids(tid);
    }

    /// Leaves the ids for the stub, or nothing where its threads would have to see different ones.
    pub(super) fn write_ids(&self, tid: i32) {
        let Ok(task) = self.task(tid) else { return };
        let state = task.space.lock().ids;
        if state == Ids::Unused {
            return;
        }
        let ids = ids_of(&task.credentials);
        let threads = self.process(task.pid).map(|process| &process.threads);
        let is_common = threads.is_ok_and(|threads| {
            let mut tasks = threads.iter().filter_map(|tid| self.tasks.get(tid));
            tasks.all(|task| ids_of(&task.credentials) == ids)
        });
        let is_told = state == Ids::Kept && is_common && task.credentials.filters.is_none();
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|id| {
                let told = if is_told { u64::from(*id) + 1 } else { 0 };
                told.to_le_bytes()
            })
            .collect();
        // A process that is ending has no memory left to be wrong.
        let _ = Memory { tid }.write(Address(loader::IDS), &bytes);
    }
}

/// For good: here and in the process whose memory it is.
fn forget(space: &mut Space) {
    space.ids = Ids::Never;
    let mut host: Option<Shared<Space>> = space.host.clone();
    while let Some(above) = host {
        let mut above = above.lock();
        above.ids = Ids::Never;
        host = above.host.clone();
    }
}

//! A thread's slot in its process's channel: given, taken back, found by the stub through the process's table.

use std::sync::{Arc, Weak};

use casemate_platform::channel::{CARRIED, Channel, FREE};
use casemate_platform::fast::{self, TABLE_ENTRY, table_entry};
use casemate_platform::notify::Call;
use casemate_platform::windows::{ENTRIES, entry_of};

use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::memory::{Address, Memory};
use crate::vfs::description::Description;
use crate::vfs::windows;

#[derive(Debug)]
pub struct Slot {
    pub channel: Arc<Channel>,
    pub index: usize,
    /// Where the table says so.
    entry: u64,
    /// The server sent its last call to be made in the ordinary way.
    pub is_declined: bool,
    pub lines: super::lines::Lines,
    /// Whose entries of what is lent are: descriptors, and what they mean.
    lent: [(i32, Weak<Description>); ENTRIES],
}

impl Slot {
    /// Whether the stub made this call, whose data lies in the slot.
    #[must_use]
    pub fn carries(&self, call: &Call) -> bool {
        call.ip == fast::called()
            && self.channel.state(self.index) == CARRIED
            && self.channel.offered(self.index).nr == call.nr
    }

    /// The entry that a descriptor belongs in is for what it means now; of another file there is nothing left in it.
    pub fn claim(&mut self, fd: i32, description: &Arc<Description>) {
        let entry = entry_of(fd);
        let (number, before) = &mut self.lent[entry];
        if *number == fd && std::ptr::eq(before.as_ptr(), Arc::as_ptr(description)) {
            return;
        }
        take_back(before);
        self.channel.clear_entry(self.index, entry);
        *number = fd;
        *before = Arc::downgrade(description);
    }

    /// Its thread stands in a call of another kind, or in a signal's frame: whatever was left in the slot is over.
    pub fn settle(&self) {
        if self.channel.state(self.index) != FREE {
            self.channel.set_state(self.index, FREE);
        }
    }
}

/// A position that may be lent is the description's own again.
fn take_back(description: &Weak<Description>) {
    if let Some(description) = description.upgrade() {
        drop(description.position_to_seek());
    }
}

impl Kernel {
    /// Gives the thread, which waits in its stub, a slot by its FS base.
    pub(super) fn register(&mut self, tid: i32, fs_base: u64) -> Result<()> {
        let task = self.task(tid)?;
        let mut space = task.space.lock();
        let channel = space.channel.clone().ok_or(Errno::ENOMEM)?;
        let index = space.slots.iter().position(Option::is_none);
        let index = index.ok_or(Errno::EBUSY)?;
        let entry = table_entry(fs_base);
        let taken = space.slots.iter().flatten().any(|other| {
            let other = self.tasks.get(other).and_then(|task| task.slot.as_ref());
            other.is_some_and(|slot| slot.entry == entry)
        });
        // Two threads with one FS base, or of one entry: only the first has a slot. A thread without a base of its own has none.
        if fs_base == 0 || taken || task.embryo.is_some() {
            return Err(Errno::EEXIST);
        }
        space.slots[index] = Some(tid);
        drop(space);
        channel.set_state(index, FREE);
        self.files.answers.open(&channel, index);
        channel.open_windows(index);
        let mut bytes = Channel::address_of(index).to_le_bytes().to_vec();
        bytes.extend(fs_base.to_le_bytes());
        Memory { tid }.write(Address(entry), &bytes)?;
        let slot = Slot {
            channel,
            index,
            entry,
            is_declined: false,
            lines: super::lines::Lines::default(),
            lent: Default::default(),
        };
        self.fast.server.add(tid, &slot);
        self.task_mut(tid)?.slot = Some(slot);
        Ok(())
    }

    /// The thread ends, or its memory is about to be another's too: the stub is not to find a slot by its FS base any more.
    pub fn withdraw_slot(&mut self, tid: i32) {
        if let Some(slot) = self.release_slot(tid) {
            let nothing = [0; TABLE_ENTRY as usize];
            // Without it, it would be found by whoever gets the same base next; a process that ends has nobody.
            let _ = Memory { tid }.write(Address(slot.entry), &nothing);
        }
    }

    /// The thread, or its memory, is gone.
    pub fn release_slot(&mut self, tid: i32) -> Option<Slot> {
        let task = self.tasks.get_mut(&tid)?;
        task.plan = None;
        let mut slot = task.slot.take()?;
        task.space.lock().slots[slot.index] = None;
        slot.lines.cut();
        for (_, description) in &slot.lent {
            take_back(description);
        }
        windows::closed((&slot.channel, slot.index));
        slot.channel.set_listening(slot.index, false);
        self.files.answers.close(&slot.channel, slot.index);
        self.fast.server.remove(tid);
        Some(slot)
    }
}

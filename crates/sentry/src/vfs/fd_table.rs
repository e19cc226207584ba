//! A process's descriptors.

use std::sync::Arc;

use super::cache::{Answers, Trail};
use super::description::Description;
use crate::errno::{Errno, Result};

#[derive(Debug, Clone)]
struct Slot {
    description: Arc<Description>,
    close_on_exec: bool,
    /// The epoch in which an answer was last made of it (`vfs::cache::answers`).
    told: u64,
}

/// Descriptors by number. Numbers are program-visible; the lowest free one is always given (open(2)).
#[derive(Debug, Clone, Default)]
pub struct FdTable {
    slots: Vec<Option<Slot>>,
    /// Whom to tell when a number that answers were made of becomes free, or another file's.
    answers: Option<Arc<Answers>>,
}

impl FdTable {
    pub fn get(&self, fd: i32) -> Result<Arc<Description>> {
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|index| self.slots.get(index));
        match slot {
            Some(Some(slot)) => Ok(slot.description.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Puts a description at the lowest free number from `lowest` on. `EMFILE` at the limit.
    pub fn add(
        &mut self,
        description: Arc<Description>,
        close_on_exec: bool,
        lowest: i32,
        limit: u64,
    ) -> Result<i32> {
        let lowest = usize::try_from(lowest).map_err(|_| Errno::EINVAL)?;
        let free = (lowest..self.slots.len()).find(|index| self.slots[*index].is_none());
        let index = free.unwrap_or_else(|| self.slots.len().max(lowest));
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        self.put(
            index,
            Slot {
                description,
                close_on_exec,
                told: 0,
            },
        );
        i32::try_from(index).map_err(|_| Errno::EMFILE)
    }

    /// Puts a description at this very number; what was there comes back.
    pub fn replace(
        &mut self,
        fd: i32,
        description: Arc<Description>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Arc<Description>>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        let old = self.take(index);
        self.put(
            index,
            Slot {
                description,
                close_on_exec,
                told: 0,
            },
        );
        Ok(old.map(|slot| slot.description))
    }

    /// Frees a number.
    fn take(&mut self, index: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(index).and_then(Option::take)?;
        if let Some(answers) = &self.answers {
            answers.retract(slot.told);
        }
        Some(slot)
    }

    /// An answer is about to be made of the file at this number; not if that is another one than it was made for.
    pub fn tell(
        &mut self,
        fd: i32,
        file: &Arc<Description>,
        answers: &Arc<Answers>,
        trail: &Trail,
    ) {
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|index| self.slots.get_mut(index))
            .and_then(Option::as_mut);
        match slot {
            Some(slot) if Arc::ptr_eq(&slot.description, file) => slot.told = trail.epoch(),
            _ => trail.leave(),
        }
        self.answers.get_or_insert_with(|| answers.clone());
    }

    fn put(&mut self, index: usize, slot: Slot) {
        if index >= self.slots.len() {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(slot);
    }

    pub fn remove(&mut self, fd: i32) -> Result<Arc<Description>> {
        let slot = usize::try_from(fd).ok().and_then(|index| self.take(index));
        slot.map(|slot| slot.description).ok_or(Errno::EBADF)
    }

    pub fn close_on_exec(&self, fd: i32) -> Result<bool> {
        self.get(fd)?;
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|index| self.slots[index].as_ref());
        Ok(slot.is_some_and(|slot| slot.close_on_exec))
    }

    pub fn set_close_on_exec(&mut self, fd: i32, value: bool) -> Result<()> {
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|index| self.slots.get_mut(index))
            .and_then(Option::as_mut);
        slot.ok_or(Errno::EBADF)?.close_on_exec = value;
        Ok(())
    }

    /// At execve: closes what is marked so.
    pub fn exec(&mut self) -> Vec<Arc<Description>> {
        let mut closed = Vec::new();
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.as_ref().is_some_and(|slot| slot.close_on_exec) {
                closed.extend(self.take(index).map(|slot| slot.description));
            }
        }
        closed
    }

    /// The numbers in use, ascending.
    pub fn numbers(&self) -> Vec<i32> {
        let used = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_some());
        used.filter_map(|(index, _)| i32::try_from(index).ok())
            .collect()
    }

    pub fn clear(&mut self) -> Vec<Arc<Description>> {
        let all = 0..self.slots.len();
        let closed = all.filter_map(|index| self.take(index));
        let closed = closed.map(|slot| slot.description).collect();
        self.slots.clear();
        closed
    }
}

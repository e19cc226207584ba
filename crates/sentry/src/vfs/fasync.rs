//! Signals for I/O (O_ASYNC): whom a file tells that it became ready. fcntl(2), "Managing signals"; Linux: fs/fcntl.c kill_fasync(), send_sigio().
//!
//! What is to be sent is noted (`Deferred`), and sent before the call that caused it is answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::deferred::Deferred;
use super::file::{POLLERR, POLLHUP, POLLRDHUP, READABLE, WRITABLE};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::signals::{Info, SI_KERNEL, SI_SIGIO};
use crate::syscalls::Cx;

const POLLWRBAND: u32 = 0x200;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Thread,
    Process,
    Group,
}

/// What F_SETOWN and F_SETSIG say of an open file, and who said it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owner {
    pub kind: Kind,
    /// 0: nobody.
    pub id: i32,
    pub signal: i32,
    uid: u32,
    euid: u32,
    kernel: u32,
}

impl Owner {
    /// As named by the caller, with this one's signal.
    pub fn named(self, cx: &Cx<'_>, kind: Kind, id: i32) -> Result<Self> {
        let who = &cx.task()?.credentials;
        Ok(Self {
            kind,
            id,
            uid: who.uid,
            euid: who.euid,
            kernel: cx.kernel.member.number,
            ..self
        })
    }

    /// Its number, or 0 if there is no such thread, process or group any more. Linux: f_getown().
    #[must_use]
    pub fn living(&self, kernel: &Kernel) -> i32 {
        let is_there = match self.kind {
            Kind::Thread => kernel.tids.contains_key(&self.id),
            Kind::Process => kernel.processes.contains_key(&self.id),
            Kind::Group => kernel.processes.values().any(|it| it.group == self.id),
        };
        if is_there { self.id } else { 0 }
    }
}

/// Of one open file, shared with the lists that it is in.
pub type SharedOwner = Arc<Mutex<Owner>>;

pub fn lock(owner: &SharedOwner) -> MutexGuard<'_, Owner> {
    owner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy)]
pub enum Band {
    In,
    Out,
    Error,
    HangUp,
}

impl Band {
    /// si_code, and the events of si_band. Linux: band_table[].
    fn told(self) -> (i32, u32) {
        match self {
            Self::In => (1, READABLE),
            Self::Out => (2, WRITABLE | POLLWRBAND),
            Self::Error => (4, POLLERR),
            Self::HangUp => (6, POLLHUP | POLLERR),
        }
    }
}

#[derive(Debug)]
struct Entry {
    owner: Weak<Mutex<Owner>>,
    /// The descriptor by which it was asked for.
    fd: i32,
}

/// The open files that have O_ASYNC on, the youngest first.
#[derive(Debug, Default)]
pub struct List {
    /// So that a file which nobody asked, as most are, looks no further.
    any: AtomicBool,
    entries: Mutex<Vec<Entry>>,
}

impl List {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Whether it was not there before. Files that are closed leave.
    pub fn add(&self, owner: &SharedOwner, fd: i32) -> bool {
        let mut entries = self.lock();
        entries.retain(|entry| entry.owner.strong_count() > 0);
        let of = Arc::downgrade(owner);
        self.any.store(true, Ordering::Release);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.owner.ptr_eq(&of)) {
            entry.fd = fd;
            return false;
        }
        entries.insert(0, Entry { owner: of, fd });
        true
    }

    /// Whether it was there.
    pub fn remove(&self, owner: &SharedOwner) -> bool {
        let mut entries = self.lock();
        let of = Arc::downgrade(owner);
        let before = entries.len();
        entries.retain(|entry| !entry.owner.ptr_eq(&of));
        self.any.store(!entries.is_empty(), Ordering::Release);
        entries.len() < before
    }

    /// After an event of the host's, whose kind it does not say: what a file of its is ready for now, but for writing.
    pub fn tell_ready(&self, ready: u32) {
        if ready & POLLERR != 0 {
            self.tell(Band::Error);
        }
        if ready & POLLHUP != 0 {
            self.tell(Band::HangUp);
        } else if ready & (READABLE | POLLRDHUP) != 0 {
            self.tell(Band::In);
        }
    }

    pub fn tell(&self, band: Band) {
        if self.is_empty() {
            return;
        }
        let mut entries = self.lock();
        entries.retain(|entry| {
            let Some(owner) = entry.owner.upgrade() else {
                return false;
            };
            let owner = *lock(&owner);
            let fd = entry.fd;
            if owner.id != 0 {
                DUE.push(owner.kernel, Due { owner, fd, band });
            }
            true
        });
        self.any.store(!entries.is_empty(), Ordering::Release);
    }
}

#[derive(Debug)]
struct Due {
    owner: Owner,
    fd: i32,
    band: Band,
}

impl Due {
    /// Codes of poll(2)'s mean something else with a signal that has its own. Linux: send_sigio_to_task(), sig_specific_sicodes().
    fn info(&self) -> Info {
        let (code, events) = self.band.told();
        let signal = self.owner.signal;
        let has_own_codes = matches!(
            signal,
            libc::SIGILL
                | libc::SIGFPE
                | libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGTRAP
                | libc::SIGCHLD
                | libc::SIGSYS
        );
        let mut info = Info::new(signal, if has_own_codes { SI_SIGIO } else { code });
        info.fields[..8].copy_from_slice(&u64::from(events).to_le_bytes());
        info.fields[8..12].copy_from_slice(&self.fd.to_le_bytes());
        info
    }
}

static DUE: Deferred<Due> = Deferred::new();

/// Sends what was noted.
pub fn settle(kernel: &mut Kernel) {
    DUE.settle(kernel, |kernel, due| kernel.send_sigio(&due));
}

impl Kernel {
    fn send_sigio(&mut self, due: &Due) {
        let id = due.owner.id;
        match due.owner.kind {
            Kind::Group => {
                let members = self.processes.values().filter(|it| it.group == id);
                let mut members: Vec<_> = members.map(|process| process.pid).collect();
                members.sort_unstable();
                for pid in members {
                    self.send_sigio_to(pid, None, due);
                }
            }
            Kind::Process if self.processes.contains_key(&id) => self.send_sigio_to(id, None, due),
            kind => {
                let Some(&tid) = self.tids.get(&id) else {
                    return;
                };
                if let Some(pid) = self.tasks.get(&tid).map(|task| task.pid) {
                    self.send_sigio_to(pid, (kind == Kind::Thread).then_some(tid), due);
                }
            }
        }
    }

    /// The plain SIGIO where no other was asked for, or its queue is full.
    fn send_sigio_to(&mut self, pid: i32, thread: Option<i32>, due: &Due) {
        if !self.may_sigio(pid, &due.owner) {
            return;
        }
        let mut send = |info| match thread {
            Some(tid) => self.send_to_thread(tid, info),
            None => self.send_to_process(pid, info),
        };
        if due.owner.signal == 0 || !send(due.info()) {
            send(Info::new(libc::SIGIO, SI_KERNEL));
        }
    }

    /// Whether whoever named the owner had the right to signal it. Linux: sigio_perm().
    fn may_sigio(&self, pid: i32, owner: &Owner) -> bool {
        let Some(task) = self.process(pid).ok().and_then(|it| self.leader(it)) else {
            return false;
        };
        let theirs = [task.credentials.uid, task.credentials.suid];
        owner.euid == 0 || theirs.contains(&owner.euid) || theirs.contains(&owner.uid)
    }
}

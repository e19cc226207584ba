//! Signals as data: sets, dispositions, what is pending. signal(7).

use std::collections::VecDeque;

pub const SIGKILL: i32 = 9;
pub const SIGSTOP: i32 = 19;
pub const SIGCONT: i32 = 18;
pub const SIGCHLD: i32 = 17;
/// The first that queues instead of merging.
const REAL_TIME: i32 = 32;
pub const LAST: i32 = 64;
const NEVER_BLOCKED: Set = Set(1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1));
/// Signals that a queue holds at most (RLIMIT_SIGPENDING's share of one process).
const MAX_QUEUED: usize = 1024;

/// A set of signals, as Linux lays it out: bit n-1 for signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u64);

impl Set {
    #[must_use]
    pub fn has(self, signal: i32) -> bool {
        (1..=LAST).contains(&signal) && self.0 >> (signal - 1) & 1 == 1
    }

    #[must_use]
    pub fn with(self, signal: i32) -> Self {
        Self(self.0 | 1 << (signal - 1))
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// As a mask that a program asked for: SIGKILL and SIGSTOP cannot be in it.
    #[must_use]
    pub fn as_mask(self) -> Self {
        self.without(NEVER_BLOCKED)
    }
}

/// What a handler or a waiter learns of a signal: the 128 bytes of siginfo_t, from which the first word is the signal.
#[derive(Debug, Clone)]
pub struct Info {
    pub signal: i32,
    pub code: i32,
    /// Mostly 0: only a filter's answer is told here.
    pub errno: i32,
    /// Bytes 16 to 48 of siginfo_t: the part that depends on the code.
    pub fields: [u8; 32],
    /// The POSIX timer that sent it.
    pub timer: Option<i32>,
}

pub const SI_USER: i32 = 0;
pub const SI_KERNEL: i32 = 128;
pub const SI_TKILL: i32 = -6;
pub const SI_TIMER: i32 = -2;
pub const SI_SIGIO: i32 = -5;

impl Info {
    #[must_use]
    pub fn new(signal: i32, code: i32) -> Self {
        Self {
            signal,
            code,
            errno: 0,
            fields: [0; 32],
            timer: None,
        }
    }

    /// As kill(2) and tgkill(2) make it: the sender's process and user.
    #[must_use]
    pub fn from_sender(signal: i32, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[..4].copy_from_slice(&pid.to_le_bytes());
        info.fields[4..8].copy_from_slice(&uid.to_le_bytes());
        info
    }

    /// SIGCHLD's: which child, whose, and its status as `code` wants it.
    #[must_use]
    pub fn child(signal: i32, code: i32, pid: i32, uid: u32, status: i32) -> Self {
        let mut info = Self::from_sender(signal, code, pid, uid);
        info.fields[8..12].copy_from_slice(&status.to_le_bytes());
        info
    }

    #[must_use]
    pub fn from_bytes(bytes: &[u8; 128]) -> Self {
        let word = |at: usize| {
            i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut info = Self::new(word(0), word(8));
        info.errno = word(4);
        info.fields.copy_from_slice(&bytes[16..48]);
        info
    }

    #[must_use]
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[..4].copy_from_slice(&self.signal.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.fields);
        bytes
    }
}

/// What waits to be delivered to a thread or a process.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    pub set: Set,
    queue: VecDeque<Info>,
}

impl Pending {
    /// Adds a signal; a standard one that is pending already is merged. False: the queue is full (EAGAIN for sigqueue(3)).
    pub fn add(&mut self, info: Info) -> bool {
        let signal = info.signal;
        // A timer's signal has its own place in the queue, always. Linux: send_sigqueue().
        if info.timer.is_some() {
            self.set = self.set.with(signal);
            self.queue.push_back(info);
            return true;
        }
        if signal < REAL_TIME && self.set.has(signal) {
            return true;
        }
        if self.queue.len() >= MAX_QUEUED {
            if signal >= REAL_TIME {
                return false;
            }
            self.set = self.set.with(signal);
            return true;
        }
        self.set = self.set.with(signal);
        self.queue.push_back(info);
        true
    }

    /// Takes the lowest signal of `wanted`, synchronous ones first (signal(7), "Signal delivery order" and dequeue_synchronous_signal).
    pub fn take(&mut self, wanted: Set) -> Option<Info> {
        let ready = self.set.0 & wanted.0;
        if ready == 0 {
            return None;
        }
        let synchronous = ready & SYNCHRONOUS.0;
        let pick = if synchronous == 0 { ready } else { synchronous };
        let signal = pick.trailing_zeros().cast_signed() + 1;
        let place = self.queue.iter().position(|info| info.signal == signal);
        let info = place.and_then(|place| self.queue.remove(place));
        if !self.queue.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(Set::default().with(signal));
        }
        Some(info.unwrap_or_else(|| Info::new(signal, SI_USER)))
    }

    pub fn queued(&self) -> impl Iterator<Item = &Info> {
        self.queue.iter()
    }

    #[must_use]
    pub fn has_timer(&self, id: i32) -> bool {
        self.queue.iter().any(|info| info.timer == Some(id))
    }

    /// Drops what the timer has sent.
    pub fn discard_timer(&mut self, id: i32) {
        let Some(place) = self.queue.iter().position(|info| info.timer == Some(id)) else {
            return;
        };
        let signal = self.queue.remove(place).map_or(0, |info| info.signal);
        if !self.queue.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(Set::default().with(signal.max(1)));
        }
    }

    pub fn discard(&mut self, signals: Set) {
        self.set = self.set.without(signals);
        self.queue.retain(|info| !signals.has(info.signal));
    }
}

/// SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS.
const SYNCHRONOUS: Set = Set(1 << 10 | 1 << 6 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 30);

pub const SA_NOCLDSTOP: u64 = 1;
pub const SA_NOCLDWAIT: u64 = 2;
pub const SA_ONSTACK: u64 = 0x0800_0000;
pub const SA_RESTART: u64 = 0x1000_0000;
pub const SA_NODEFER: u64 = 0x4000_0000;
pub const SA_RESETHAND: u64 = 0x8000_0000;
pub const SIG_DFL: u64 = 0;
pub const SIG_IGN: u64 = 1;

/// `struct kernel_sigaction`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: Set,
}

/// A process's dispositions; shared with CLONE_SIGHAND.
#[derive(Debug, Clone)]
pub struct Actions([Action; 65]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action::default(); 65])
    }
}

impl Actions {
    #[must_use]
    pub fn get(&self, signal: i32) -> Action {
        usize::try_from(signal)
            .ok()
            .and_then(|index| self.0.get(index))
            .copied()
            .unwrap_or_default()
    }

    pub fn set(&mut self, signal: i32, action: Action) {
        if let Some(slot) = usize::try_from(signal)
            .ok()
            .and_then(|index| self.0.get_mut(index))
        {
            *slot = action;
        }
    }

    /// At execve: handlers become the default, ignored ones stay ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == SIG_IGN {
                SIG_IGN
            } else {
                SIG_DFL
            };
            *action = Action {
                handler,
                ..Action::default()
            };
        }
    }
}

/// What happens to a process with a signal's default disposition. signal(7), "Standard signals".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default_ {
    Terminate,
    Core,
    Ignore,
    Stop,
    Continue,
}

#[must_use]
pub fn default_action(signal: i32) -> Default_ {
    match signal {
        17 | 23 | 28 => Default_::Ignore,
        18 => Default_::Continue,
        19..=22 => Default_::Stop,
        3..=8 | 11 | 24 | 25 | 31 => Default_::Core,
        _ => Default_::Terminate,
    }
}

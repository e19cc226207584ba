//! Where new processes begin. The host starts a child on the processor where it sees the least to do. If its creator is about to wait for it, as shells and
//! vfork(2) do, the creator's own is free at once and the best of all: another one has to be woken (65 us here), or is taken, and the child begins behind somebody
//! who computes: 4 ms later, the host's tick. Beside its creator it begins after 10 us. docs/decisions/2026-11-29-forks.md.
//!
//! So a creator that has waited soon after its last forks is held on its processor while the host makes the child, which inherits that; both may run everywhere
//! again from their next calls on, or when they made none for a while. Programs do not see it: their affinities are the sentry's bookkeeping.

use std::time::{Duration, Instant};

use casemate_platform::notify::Call;
use rustix::thread::Pid;

use super::Kernel;
use super::timers::Due;
use crate::fast::place::set_affinity;

/// From a fork to the wait that shows that its creator has nothing else to do.
const SOON: Duration = Duration::from_micros(500);
/// As many waits that come later as are forgiven: on a crowded machine the creator may have lost its processor in between.
const FORGIVEN: u8 = 3;
/// Without calls for so long, both are let go.
const LONGEST: Duration = Duration::from_millis(4);

/// What a thread does after its forks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habit {
    /// When it last forked, if it has not waited since.
    forked: Option<Instant>,
    /// How much speaks for a wait after the next one.
    waits: u8,
}

impl Habit {
    /// A child begins with its creator's.
    #[must_use]
    pub fn inherited(self) -> Self {
        Self {
            forked: None,
            ..self
        }
    }

    /// One fork after the other without a wait: the children are to run at the same time.
    fn forks(&mut self, now: Instant) {
        if self.forked.replace(now).is_some() {
            self.waits = 0;
        }
    }

    /// vfork(2) returns when the child has executed, or ended.
    fn goes_on(&mut self, now: Instant) {
        self.forked = self.forked.map(|_| now);
    }

    /// The thread waits for its children, or in any other call.
    pub fn waits(&mut self) {
        if self.forked.is_some() {
            self.waits_at(Instant::now());
        }
    }

    fn waits_at(&mut self, now: Instant) {
        match self.forked.take() {
            None => {}
            Some(forked) if now.saturating_duration_since(forked) < SOON => self.waits = FORGIVEN,
            Some(_) => self.waits = self.waits.saturating_sub(1),
        }
    }
}

/// A process that begins beside its creator, until neither is held. Native ids.
#[derive(Debug)]
pub struct Birth {
    creator: i32,
    holds_creator: bool,
    is_vfork: bool,
    /// Once it is known.
    child: Option<i32>,
    /// When both are let go, if they made no call by then, and how often it was too early for that.
    until: Instant,
    delays: u32,
}

/// Those of a container.
#[derive(Debug, Default)]
pub struct Births {
    list: Vec<Birth>,
    is_armed: bool,
}

impl Births {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Kernel {
    /// The host is about to make a process. Its creator waits, and so has the processor that the caller is on.
    pub fn prepare_birth(&mut self, creator: i32, is_vfork: bool) {
        let now = Instant::now();
        let processor = rustix::thread::sched_getcpu();
        let processors = &self.machine.host_cpus;
        let Some(task) = self.tasks.get_mut(&creator) else {
            return;
        };
        task.habit.forks(now);
        let is_awaited = is_vfork || task.habit.waits > 0;
        let may_move = task.settings.cpus.is_empty() && processors.len() > 1;
        let Some(until) = now.checked_add(LONGEST) else {
            return;
        };
        if !is_awaited || !may_move || !processors.contains(&processor) {
            return;
        }
        set_affinity(Pid::from_raw(creator), std::iter::once(&processor));
        // One whose child is not known by now had none.
        self.births
            .list
            .retain(|birth| birth.creator != creator || birth.child.is_some());
        self.births.list.push(Birth {
            creator,
            holds_creator: true,
            is_vfork,
            child: None,
            until,
            delays: 0,
        });
        self.arm_births();
    }

    /// It is known who the child is.
    pub fn note_birth(&mut self, creator: i32, child: i32) {
        let births = self.births.list.iter_mut();
        let mut unknown = births.filter(|birth| birth.child.is_none());
        if let Some(birth) = unknown.find(|birth| birth.creator == creator) {
            birth.child = Some(child);
        }
    }

    /// A call of the thread's has come: if it is held, it is so no more.
    pub fn end_birth(&mut self, call: &Call) {
        let tid = call.tid;
        let held = |birth: &&mut Birth| birth.creator == tid && birth.holds_creator;
        if let Some(birth) = self.births.list.iter_mut().find(held) {
            birth.holds_creator = false;
            if birth.is_vfork
                && let Some(task) = self.tasks.get_mut(&tid)
            {
                task.habit.goes_on(Instant::now());
            }
            self.restore_affinity(tid);
        }
        let is_child = |birth: &Birth| birth.child == Some(tid);
        let Some(index) = self.births.list.iter().position(is_child) else {
            return;
        };
        let nr = i64::from(call.nr);
        // The host seeks a processor for what begins to execute, as for a new child.
        let executes = [libc::SYS_execve, libc::SYS_execveat].contains(&nr);
        if executes && self.is_awaited(self.births.list[index].creator) {
            return;
        }
        self.births.list.swap_remove(index);
        if nr != libc::SYS_exit_group {
            self.restore_affinity(tid);
        }
    }

    /// Whether the creator has nothing to do but to wait for this child. Who has others (make) wants them to run at the same time.
    fn is_awaited(&self, creator: i32) -> bool {
        let waits = self.task(creator).map(|task| (task.habit.waits, task.pid));
        let Ok((1.., pid)) = waits else {
            return false;
        };
        let children = self.processes.values();
        let living = children.filter(|child| child.parent == pid && !child.is_zombie());
        living.count() == 1
    }

    fn has_embryo(&self, creator: i32) -> bool {
        let creator = self.tasks.get(&creator);
        creator.is_some_and(|task| task.embryo.is_some())
    }

    /// The thread is gone: its number may become somebody else's.
    pub(super) fn forget_birth(&mut self, tid: i32) {
        self.births.list.retain_mut(|birth| {
            let is_creator = birth.creator == tid;
            birth.holds_creator &= !is_creator;
            birth.child != Some(tid) && !(is_creator && birth.child.is_none())
        });
    }

    /// Lets those go that have not called for long.
    pub(super) fn end_births(&mut self, now: Instant) {
        let births = std::mem::take(&mut self.births.list);
        for mut birth in births {
            if birth.until > now {
                self.births.list.push(birth);
                continue;
            }
            if std::mem::take(&mut birth.holds_creator) {
                self.restore_affinity(birth.creator);
            }
            let is_expected = birth.child.is_none() && self.has_embryo(birth.creator);
            let unnoted = is_expected.then(|| self.unnoted_child(birth.creator));
            if let Some(child) = birth.child.or(unnoted.flatten()) {
                self.restore_affinity(child);
            } else if is_expected {
                // The host has not come to it yet, or could not, which the creator's next call will tell.
                birth.delays += 1;
                let delay = LONGEST * 2_u32.saturating_pow(birth.delays.min(8));
                birth.until = now.checked_add(delay).unwrap_or(now);
                self.births.list.push(birth);
            }
        }
        self.births.is_armed = false;
        self.arm_births();
    }

    /// One alarm for all: most births are over long before it, and it rings for those that came since.
    fn arm_births(&mut self) {
        let first = self.births.list.iter().map(|birth| birth.until).min();
        if let Some(first) = first.filter(|_| !self.births.is_armed) {
            self.births.is_armed = true;
            self.arm(first, Due::Births);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forks_and_waits(habit: &mut Habit, now: Instant, after: Duration) {
        habit.forks(now);
        habit.waits_at(now + after);
    }

    #[test]
    fn who_waits_after_a_fork_will_wait_after_the_next() {
        let now = Instant::now();
        let mut habit = Habit::default();
        habit.waits_at(now);
        assert_eq!(habit.waits, 0);
        forks_and_waits(&mut habit, now, SOON / 2);
        assert_eq!(habit.waits, FORGIVEN);
        assert_eq!(habit.inherited().waits, FORGIVEN);
    }

    #[test]
    fn late_waits_are_forgiven_for_a_while_and_two_forks_in_a_row_are_not() {
        let now = Instant::now();
        let mut habit = Habit::default();
        forks_and_waits(&mut habit, now, SOON / 2);
        for left in (0..FORGIVEN).rev() {
            forks_and_waits(&mut habit, now, 2 * SOON);
            assert_eq!(habit.waits, left);
        }
        forks_and_waits(&mut habit, now, SOON / 2);
        habit.forks(now);
        assert_eq!(habit.waits, FORGIVEN);
        habit.forks(now);
        assert_eq!(habit.waits, 0);
    }

    #[test]
    fn the_time_of_a_vfork_does_not_count() {
        let now = Instant::now();
        let mut habit = Habit::default();
        habit.forks(now);
        habit.goes_on(now + 2 * SOON);
        habit.waits_at(now + 2 * SOON + SOON / 2);
        assert_eq!(habit.waits, FORGIVEN);
    }
}

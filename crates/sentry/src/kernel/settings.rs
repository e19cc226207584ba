//! What a process or thread has set and only it, /proc and the scheduler's calls ask for again. Copied by fork, and by clone for a thread.

use crate::vfs::place::Place;

/// sched(7): policy, real-time priority and nice value, as the program set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    pub policy: i32,
    pub priority: i32,
    pub nice: i32,
    /// SCHED_RESET_ON_FORK: children start with SCHED_OTHER.
    pub resets: bool,
}

/// A thread's.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub schedule: Schedule,
    /// The nice value that the host knows of.
    pub host_nice: i32,
    pub io_priority: i32,
    pub timer_slack_ns: Option<u64>,
    pub securebits: u32,
    /// PR_MCE_KILL's policy: 0 the default, 1 late, 2 early.
    pub machine_check: i32,
    /// The CPUs that sched_setaffinity(2) left it, in the sandbox's numbers; empty: all.
    pub cpus: Vec<usize>,
    pub memory_policy: crate::syscalls::memory_policy::Policy,
    /// Who logged in, and the number of that session, once a program said so. /proc/PID/loginuid, pam_loginuid(8).
    pub login: Option<(u32, u32)>,
}

impl Settings {
    /// Of a program that is started from outside.
    #[must_use]
    pub fn started(nice: i32) -> Self {
        Self {
            schedule: Schedule {
                nice,
                ..Schedule::default()
            },
            host_nice: nice,
            ..Self::default()
        }
    }

    /// What a child starts with. sched(7), "Resetting scheduling policy for child processes".
    #[must_use]
    pub fn inherited(&self) -> Self {
        let mut own = self.clone();
        if own.schedule.resets {
            own.schedule = Schedule {
                nice: own.schedule.nice.max(0),
                ..Schedule::default()
            };
        }
        own
    }
}

/// A process's.
#[derive(Debug, Clone, Default)]
pub struct ProcessSettings {
    /// The program's file, for the link /proc/PID/exe.
    pub executable: Option<Place>,
    /// Its device and inode.
    pub executed: (u64, u64),
    /// The auxiliary vector that the program got, as bytes.
    pub auxiliary: Vec<u8>,
    /// Where its arguments lie, its environment behind them; 0 until they are there.
    pub strings_at: u64,
    /// The name of its first thread at the end, for a zombie.
    pub last_name: Vec<u8>,
    pub oom_score_adj: i32,
    /// The lowest that may be returned to without CAP_SYS_RESOURCE.
    pub oom_score_adj_min: i32,
    pub personality: u32,
    pub core_filter: Option<u32>,
}

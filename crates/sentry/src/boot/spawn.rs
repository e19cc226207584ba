//! Processes that the zygote forks for programs from outside, one at a time.

use std::os::fd::AsFd;
use std::sync::Arc;

use casemate_platform::loader::LOADER_FD;
use casemate_platform::notify::Answer;

use crate::control;
use crate::kernel::task::{Process, Shared, Task};
use crate::kernel::{Kernel, Spawn};

/// Limits that the host keeps, for what it does for programs itself: memory, stacks, time.
const NATIVE_LIMITS: [u32; 5] = [
    libc::RLIMIT_CPU as _,
    libc::RLIMIT_DATA as _,
    libc::RLIMIT_STACK as _,
    libc::RLIMIT_MEMLOCK as _,
    libc::RLIMIT_AS as _,
];

impl Kernel {
    /// Has the zygote fork for the next program that waits to be started, if it is free.
    pub fn spawn_next(&mut self) {
        if self.spawning.is_some() || self.spawns.is_empty() {
            return;
        }
        let Some(call) = self.zygote_call.take() else {
            return;
        };
        if self
            .listener
            .give_fd(call.id, self.loader.as_fd(), LOADER_FD, false)
            .is_err()
        {
            return;
        }
        self.spawning = self.spawns.pop_front();
        self.spawning_pid = 0;
        self.answer(&call, Answer::Value(0));
    }

    /// The zygote waits for work again, after it forked: `child` is what fork(2) returned. A child that dies before its first call is not waited for.
    pub fn zygote_forked(&mut self, child: i32) {
        if self.spawning.is_none() {
            return;
        }
        if child < 0 {
            return self.fail_spawn(-child);
        }
        self.spawning_pid = child;
        match casemate_platform::process::pidfd(child) {
            Ok(pidfd) => {
                self.watcher.watch_process(&Arc::new(pidfd), child);
            }
            Err(_) => self.fail_spawn(libc::ECHILD),
        }
    }

    /// What was to be started never will be. A sandbox without its first program is over.
    pub fn fail_spawn(&mut self, errno: i32) {
        let Some(spawn) = self.spawning.take() else {
            return;
        };
        match spawn.task.report {
            Some(reporter) => reporter.tell(control::Report::Failed(errno)),
            None => {
                self.result.get_or_insert(libc::SIGKILL);
                self.watcher.finish();
            }
        }
        self.spawn_next();
    }

    /// The zygote's new child makes its first call: it becomes the process that was to be started.
    pub fn bind_spawned(&mut self, tid: i32) -> bool {
        if self.spawning.is_none() {
            return false;
        }
        let Some((inner, parent)) = crate::kernel::bind::inner_pid_and_parent(tid) else {
            return false;
        };
        if parent != self.zygote {
            return false;
        }
        let Some(Spawn { image, task }) = self.spawning.take() else {
            return false;
        };
        self.know_programs(tid);
        let mut process = Process::new(inner, tid, task.limits.clone(), task.credentials.uid);
        process.settings.oom_score_adj = task.oom_score_adj;
        for number in NATIVE_LIMITS {
            let (soft, hard) = task.limits.0[number as usize];
            // Never above what the zygote has: `init` raised that.
            let _ = casemate_platform::process::set_limit(tid, number, soft, hard);
        }
        let credentials = Arc::new(task.credentials);
        let settings = crate::kernel::settings::Settings::started(self.machine.nice);
        self.tids.insert(inner, tid);
        self.tasks.insert(
            tid,
            Task {
                name: image.command_name(),
                image: Some(image),
                settings,
                ..Task::new(
                    (tid, inner, inner),
                    credentials,
                    Shared::new(task.files),
                    Shared::new(task.fs),
                )
            },
        );
        self.add_process(process);
        if let Some(reporter) = task.report {
            reporter.tell(control::Report::Started(inner));
            self.reporters.insert(inner, reporter);
        }
        self.give_started_terminal(inner, tid);
        self.spawn_next();
        true
    }
}

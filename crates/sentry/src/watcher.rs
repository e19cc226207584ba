//! The thread that waits for the host: streams that become ready, processes that end, the next deadline, signals to the sandbox.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::kernel::wake::WaitQueue;
use crate::worker::{self, SharedKernel};

/// What an event of the host means.
#[derive(Debug)]
enum Subject {
    Clock,
    Finish,
    Process(i32, Arc<OwnedFd>),
    Queue(Weak<dyn HasQueue>),
    Signals(Arc<OwnedFd>),
}

/// A file of the sandbox that the host can make ready.
pub trait HasQueue: Send + Sync + std::fmt::Debug {
    fn wait_queue(&self) -> &WaitQueue;

    /// What else is to be done at an event, with the kernel held (a terminal's line discipline runs whether or not somebody reads).
    fn on_event(&self, _kernel: &mut crate::kernel::Kernel) {}
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    clock: OwnedFd,
    finish: OwnedFd,
    finished: AtomicBool,
    subjects: Mutex<(u64, HashMap<u64, Subject>)>,
}

/// The watcher, for those who ask it to watch something.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// # Errors
    /// As the host's, which is out of descriptors.
    pub fn new() -> rustix::io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let clock = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        Self::of(epoll, rustix::event::eventfd(0, flags)?, clock)
    }

    /// As `new`, of descriptors that somebody made who may: an empty epoll instance, an eventfd and a timerfd, both non-blocking.
    ///
    /// # Errors
    /// As the host's.
    pub fn of(epoll: OwnedFd, finish: OwnedFd, clock: OwnedFd) -> rustix::io::Result<Self> {
        let handle = Self(Arc::new(Shared {
            epoll,
            clock,
            finish,
            finished: AtomicBool::new(false),
            subjects: Mutex::new((0, HashMap::new())),
        }));
        handle.watch(handle.0.clock.as_fd(), EventFlags::IN, Subject::Clock)?;
        handle.watch(handle.0.finish.as_fd(), EventFlags::IN, Subject::Finish)?;
        Ok(handle)
    }

    fn watch(
        &self,
        fd: impl AsFd,
        events: EventFlags,
        subject: Subject,
    ) -> rustix::io::Result<u64> {
        let mut subjects = self
            .0
            .subjects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Files that are gone leave their entries behind: swept whenever their number has doubled.
        if subjects.1.len().is_power_of_two() {
            subjects.1.retain(|_, subject| match subject {
                Subject::Queue(file) => file.strong_count() > 0,
                _ => true,
            });
        }
        subjects.0 += 1;
        let key = subjects.0;
        // Closing a descriptor ends its watch on the host, without an event that would tell: what is gone is dropped now and then.
        if key.is_multiple_of(1024) {
            subjects.1.retain(
                |_, subject| !matches!(subject, Subject::Queue(file) if file.strong_count() == 0),
            );
        }
        subjects.1.insert(key, subject);
        let added = epoll::add(&self.0.epoll, fd, EventData::new_u64(key), events);
        if added.is_err() {
            subjects.1.remove(&key);
        }
        added.map(|()| key)
    }

    /// The watch's number. `None`: out of memory for one; the end is then seen when the program's own exit tells it.
    pub fn watch_process(&self, pidfd: &Arc<OwnedFd>, host_pid: i32) -> Option<u64> {
        let subject = Subject::Process(host_pid, pidfd.clone());
        self.watch(pidfd.as_fd(), EventFlags::IN, subject).ok()
    }

    /// Ends a watch; false if what it waits for has come, and is about to be told.
    pub fn unwatch(&self, key: u64, pidfd: impl AsFd) -> bool {
        let mut subjects = self
            .0
            .subjects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_waiting = subjects.1.remove(&key).is_some();
        if is_waiting {
            let _ = epoll::delete(&self.0.epoll, pidfd);
        }
        is_waiting
    }

    /// Passes on what signalfd tells.
    pub fn watch_signals(&self, signals: OwnedFd) {
        let signals = Arc::new(signals);
        let _ = self.watch(
            signals.as_fd(),
            EventFlags::IN,
            Subject::Signals(signals.clone()),
        );
    }

    /// Wakes the file's queue whenever the host's descriptor changes. False: the host cannot tell (a regular file: always ready).
    #[must_use]
    pub fn watch_file(&self, fd: impl AsFd, file: Weak<dyn HasQueue>) -> bool {
        let events =
            EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
        self.watch(fd, events, Subject::Queue(file)).is_ok()
    }

    /// The clock rings at `deadline`, and not before.
    pub fn set_alarm(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let wait = deadline.saturating_duration_since(Instant::now());
        let value = Timespec {
            tv_sec: wait.as_secs() as i64,
            // 0 would disarm it.
            tv_nsec: i64::from(wait.subsec_nanos()).max(i64::from(wait.as_secs() == 0)),
        };
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let _ = rustix::time::timerfd_settime(
            &self.0.clock,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: none,
                it_value: value,
            },
        );
    }

    /// Has the kernel look for calls that can go on.
    pub fn ring(&self) {
        let _ = crate::host::write(&self.0.finish, &1_u64.to_ne_bytes());
    }

    /// Ends `run`.
    pub fn finish(&self) {
        self.0.finished.store(true, Ordering::Release);
        let _ = crate::host::write(&self.0.finish, &1_u64.to_ne_bytes());
    }

    /// Waits and reports until `finish`.
    pub fn run(&self, kernel: &SharedKernel) {
        let mut events = Vec::with_capacity(64);
        while !self.0.finished.load(Ordering::Acquire) {
            events.clear();
            if epoll::wait(
                &self.0.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )
            .is_err()
            {
                continue;
            }
            for event in &events {
                self.report(kernel, event.data.u64());
            }
        }
    }

    fn report(&self, kernel: &SharedKernel, key: u64) {
        let mut subjects = self
            .0
            .subjects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match subjects.1.get(&key) {
            None => {}
            Some(Subject::Finish) => {
                drop(subjects);
                let _ = crate::host::read(&self.0.finish, &mut [0; 8]);
                let mut kernel = worker::lock(kernel);
                worker::run_ready(&mut kernel);
                if kernel.result.is_some() {
                    self.finish();
                }
            }
            Some(Subject::Clock) => {
                drop(subjects);
                let _ = crate::host::read(&self.0.clock, &mut [0; 8]);
                worker::run_expired(&mut worker::lock(kernel));
            }
            Some(Subject::Signals(signals)) => {
                let signals = signals.clone();
                drop(subjects);
                let mut kernel = worker::lock(kernel);
                while let Some(came) = casemate_platform::signals::next(&signals) {
                    kernel.host_signal(came);
                }
                worker::run_ready(&mut kernel);
                if kernel.result.is_some() {
                    self.finish();
                }
            }
            Some(Subject::Process(host_pid, pidfd)) => {
                let host_pid = *host_pid;
                let _ = epoll::delete(&self.0.epoll, pidfd.as_fd());
                subjects.1.remove(&key);
                drop(subjects);
                let mut kernel = worker::lock(kernel);
                kernel.host_process_ended(host_pid);
                worker::run_ready(&mut kernel);
                if kernel.result.is_some() {
                    self.finish();
                }
            }
            Some(Subject::Queue(file)) => {
                let file = file.upgrade();
                if file.is_none() {
                    subjects.1.remove(&key);
                }
                drop(subjects);
                if let Some(file) = file {
                    file.wait_queue().wake();
                    let mut kernel = worker::lock(kernel);
                    file.on_event(&mut kernel);
                    worker::run_ready(&mut kernel);
                    if kernel.result.is_some() {
                        self.finish();
                    }
                }
            }
        }
    }
}

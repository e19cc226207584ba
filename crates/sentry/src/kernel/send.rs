//! Sending signals: what they do at once, and whom they interrupt. kill(2), signal(7).

use casemate_platform::loader::{KICK, KICK_ON_ALTERNATE_STACK};
use casemate_platform::notify::Answer;
use casemate_platform::process;

use super::Kernel;
use super::credentials::{CAP_KILL, Credentials};
use super::signals::{
    Default_, Info, SA_NOCLDSTOP, SA_ONSTACK, SI_KERNEL, SIG_DFL, SIG_IGN, SIGCHLD, SIGCONT,
    SIGKILL, SIGSTOP, Set, default_action,
};
use super::task::{Blocked, Owed, Restart, StopReport};
use crate::errno::Errno;

const STOPS: Set = Set(1 << 18 | 1 << 19 | 1 << 20 | 1 << 21);
const CONTINUES: Set = Set(1 << 17);
const CLD_STOPPED: i32 = 5;
const CLD_CONTINUED: i32 = 6;

impl Kernel {
    /// Whether `sender` may signal `target`. kill(2).
    #[must_use]
    pub fn may_signal(
        &self,
        sender: &Credentials,
        sender_pid: i32,
        target: i32,
        signal: i32,
    ) -> bool {
        let Ok(process) = self.process(target) else {
            return false;
        };
        let Some(task) = self.leader(process) else {
            return true;
        };
        let theirs = &task.credentials;
        let same_session = self
            .process(sender_pid)
            .is_ok_and(|own| own.session == process.session);
        sender.has(CAP_KILL)
            || [theirs.uid, theirs.suid]
                .iter()
                .any(|uid| [sender.uid, sender.euid].contains(uid))
            || (signal == SIGCONT && same_session)
    }

    /// Sends a signal to a process; false if its queue is full.
    pub fn send_to_process(&mut self, pid: i32, info: Info) -> bool {
        self.send(pid, None, info)
    }

    /// Sends a signal to one thread (native id).
    pub fn send_to_thread(&mut self, tid: i32, info: Info) -> bool {
        match self.tasks.get(&tid).map(|task| task.pid) {
            Some(pid) => self.send(pid, Some(tid), info),
            None => true,
        }
    }

    fn send(&mut self, pid: i32, thread: Option<i32>, info: Info) -> bool {
        let signal = info.signal;
        let Ok(process) = self.process_mut(pid) else {
            return true;
        };
        if process.is_zombie() {
            return true;
        }
        if signal == SIGKILL {
            // None of its own namespace's processes kills the sandbox's init (pid_namespaces(7)); whoever is outside calls `terminate`.
            if pid != 1 {
                self.terminate(pid, SIGKILL);
            }
            return true;
        }
        if signal == SIGCONT {
            process.pending.discard(STOPS);
            let threads = process.threads.clone();
            self.discard_in_threads(&threads, STOPS);
            self.resume(pid);
        } else if STOPS.has(signal) {
            process.pending.discard(CONTINUES);
            let threads = process.threads.clone();
            self.discard_in_threads(&threads, CONTINUES);
        }
        if self.is_ignored(pid, thread, signal) {
            return true;
        }
        let queued = match thread.and_then(|tid| self.tasks.get_mut(&tid)) {
            Some(task) => task.pending.add(info),
            None => self
                .process_mut(pid)
                .is_ok_and(|process| process.pending.add(info)),
        };
        if !queued {
            return false;
        }
        let queue = self
            .process(pid)
            .map(|process| process.signal_queue.clone());
        if let Ok(queue) = queue {
            queue.wake();
        }
        self.notice(pid, thread, signal);
        true
    }

    fn discard_in_threads(&mut self, threads: &[i32], signals: Set) {
        for tid in threads {
            if let Some(task) = self.tasks.get_mut(tid) {
                task.pending.discard(signals);
            }
        }
    }

    /// Whether the signal has no effect and is dropped: ignored, and not blocked by those who could take it.
    fn is_ignored(&self, pid: i32, thread: Option<i32>, signal: i32) -> bool {
        let Ok(process) = self.process(pid) else {
            return true;
        };
        let action = process.actions.lock().get(signal);
        let ignored = match action.handler {
            SIG_IGN => true,
            // The sandbox's init gets no signal that it has no handler for (pid_namespaces(7)).
            SIG_DFL => {
                process.pid == 1
                    || matches!(
                        default_action(signal),
                        Default_::Ignore | Default_::Continue
                    )
            }
            _ => false,
        };
        // Its tracer is told of it. Linux: sig_ignored().
        let taker = thread.unwrap_or(process.host_pid);
        if self
            .traced(taker)
            .is_some_and(|traced| traced.tracer.is_some())
        {
            return false;
        }
        let blocked = match thread {
            Some(tid) => self
                .tasks
                .get(&tid)
                .is_some_and(|task| task.mask.has(signal)),
            None => process
                .threads
                .iter()
                .filter_map(|tid| self.tasks.get(tid))
                .all(|task| task.mask.has(signal)),
        };
        ignored && !blocked
    }

    /// Makes somebody take a signal that was just queued, if anybody may.
    fn notice(&mut self, pid: i32, thread: Option<i32>, signal: i32) {
        let Ok(process) = self.process(pid) else {
            return;
        };
        // It waits, as all but SIGKILL does, until the process is continued.
        if process.is_stopped {
            return;
        }
        let takers = thread.map_or_else(|| process.threads.clone(), |tid| vec![tid]);
        let open = |tid: &i32| {
            self.tasks
                .get(tid)
                .is_some_and(|task| !task.mask.has(signal))
        };
        // One that waits in a call is rather interrupted than one that computes: it is ready to run.
        let waiting = |tid: &i32| {
            self.tasks
                .get(tid)
                .is_some_and(|task| task.blocked.is_some())
        };
        let taker = takers
            .iter()
            .copied()
            .find(|tid| open(tid) && (*tid == process.host_pid || waiting(tid)));
        let Some(taker) = taker.or_else(|| takers.iter().copied().find(open)) else {
            return;
        };
        let handler = process.actions.lock().get(signal).handler;
        let is_traced = self
            .traced(taker)
            .is_some_and(|traced| traced.tracer.is_some());
        if handler == SIG_DFL && !is_traced {
            match default_action(signal) {
                Default_::Terminate => return self.terminate(pid, signal),
                Default_::Core => return self.terminate(pid, signal | 0x80),
                Default_::Stop => return self.stop(pid, signal),
                Default_::Ignore | Default_::Continue => {}
            }
        }
        self.interrupt(taker);
    }

    /// Makes a thread look at its signals soon: a native signal, and the end of an interruptible call.
    pub fn interrupt(&mut self, tid: i32) {
        self.kick(tid);
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        let Some(blocked) = &task.blocked else { return };
        if blocked.restart == Restart::Uninterruptible {
            return;
        }
        // A wait for a child looks once more: the child comes before the signal of its end. Linux: do_wait().
        let is_wait = matches!(
            i64::from(blocked.call.nr),
            libc::SYS_wait4 | libc::SYS_waitid
        );
        let wait = blocked.wait;
        if is_wait && super::wake::is_ready(super::wake::Ticket { tid, wait }) {
            return;
        }
        let blocked = blocked.clone();
        self.unblock(tid);
        self.opening.remove(&tid);
        // What has moved data tells how much: it must not be made again. A sleep's progress is none of that.
        if blocked.progress > 0 && i64::from(blocked.call.nr) != libc::SYS_clock_nanosleep {
            let done = blocked.progress.cast_signed();
            return self.answer(&blocked.call, Answer::Value(done));
        }
        let Errno(number) = self.note_interruption(&blocked);
        self.answer(&blocked.call, Answer::Value(-i64::from(number)));
    }

    /// Remembers the interrupted call until its frame is made, tells the program the time that was left, and has the thread ask. The call's result.
    pub fn note_interruption(&mut self, blocked: &Blocked) -> Errno {
        let tid = blocked.call.tid;
        if let (Some(remaining), Some(deadline)) = (blocked.remaining, blocked.deadline) {
            // Linux: nanosleep_copyout() lets EFAULT win, poll_select_finish() passes it over: a call that is made again would see a wrong limit.
            let _ = remaining.write(tid, deadline);
        }
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.interrupted = Some((blocked.call.nr, blocked.restart));
            task.carried = blocked.deadline.map(|_| Box::new(blocked.clone()));
        }
        self.kick(tid);
        Errno::EINTR
    }

    /// Sends the native signal that makes the thread's stub ask, unless one is under way.
    pub fn kick(&mut self, tid: i32) {
        let Some(task) = self.tasks.get(&tid) else {
            return;
        };
        // Owed: frames within frames would fill the stack of a thread that is sent signals faster than it takes them.
        if task.is_kicked
            || task.owed != Owed::Nothing
            || task.traced.as_ref().is_some_and(|own| own.is_in_frame())
        {
            return;
        }
        let Ok(process) = self.process(task.pid) else {
            return;
        };
        if process.is_loading {
            if let Some(task) = self.tasks.get_mut(&tid) {
                task.owed = Owed::Now;
            }
            return;
        }
        let ready = task.deliverable(&process.pending);
        let next = ready.0.trailing_zeros().cast_signed() + 1;
        let told = task.traced.as_ref().and_then(|own| own.next_signal());
        let next = told.unwrap_or(next);
        let on_alternate = task.image.is_some()
            || task
                .recloning
                .as_ref()
                .is_some_and(|it| it.saved.is_empty())
            || task.returning.is_some()
            || task.plan.is_some()
            || process.actions.lock().get(next).flags & SA_ONSTACK != 0;
        let native = if on_alternate {
            KICK_ON_ALTERNATE_STACK
        } else {
            KICK
        };
        let host_pid = process.host_pid;
        if process::signal_thread(host_pid, tid, native).is_ok()
            && let Some(task) = self.tasks.get_mut(&tid)
        {
            task.is_kicked = true;
        }
    }

    /// Stops all threads of a process: those in calls stay there, those that run are made to ask and are held then.
    pub fn stop(&mut self, pid: i32, signal: i32) {
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        process.pending.discard(Set::default().with(signal));
        if process.is_stopped {
            return;
        }
        let (group, session) = (process.group, process.session);
        // Nobody would continue an orphaned group: the terminal's stops do nothing to it. Linux: get_signal().
        if signal != SIGSTOP && self.is_orphaned(group, session) {
            return;
        }
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        process.is_stopped = true;
        process.stop_signal = signal;
        process.stop_report = StopReport::Stopped(signal);
        let threads = process.threads.clone();
        for tid in threads {
            if let Some(task) = self.tasks.get_mut(&tid) {
                task.pending.discard(Set::default().with(signal));
            }
            let blocked = self.tasks.get(&tid).map(|task| task.blocked.as_ref());
            let restart = blocked.map(|blocked| blocked.map(|blocked| blocked.restart));
            match restart {
                Some(None) => self.kick(tid),
                // These do not outlive a stop.
                Some(Some(Restart::Never)) => self.interrupt(tid),
                _ => {}
            }
        }
        self.tell_of_group_stop(pid, false);
        self.tell_parent(pid, CLD_STOPPED, signal);
    }

    /// Lets a stopped process go on.
    pub fn resume(&mut self, pid: i32) {
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        if !process.is_stopped {
            return;
        }
        process.is_stopped = false;
        process.stop_report = StopReport::Continued;
        process.continue_queue.wake();
        let waiting = process.threads.clone();
        // What became ready while it was stopped is looked at again.
        for tid in waiting {
            if let Some(blocked) = self.tasks.get(&tid).and_then(|task| task.blocked.as_ref()) {
                super::wake::make_ready(&[super::wake::Ticket {
                    tid,
                    wait: blocked.wait,
                }]);
            }
        }
        self.tell_of_group_stop(pid, true);
        self.tell_parent(pid, CLD_CONTINUED, SIGCONT);
        // What came meanwhile takes effect now.
        for tid in self
            .process(pid)
            .map_or_else(|_| Vec::new(), |process| process.threads.clone())
        {
            let _ = self.take_unblocked(tid);
        }
    }

    /// SIGCHLD for a stop or a continuation, and whoever waits.
    fn tell_parent(&mut self, pid: i32, code: i32, status: i32) {
        let Ok(process) = self.process(pid) else {
            return;
        };
        let (parent, uid) = (process.parent, process.uid);
        if code == CLD_STOPPED && self.is_traced_by(pid, parent) {
            return;
        }
        let Ok(parent_process) = self.process(parent) else {
            return;
        };
        parent_process.child_queue.wake();
        if parent_process.actions.lock().get(SIGCHLD).flags & SA_NOCLDSTOP == 0 {
            self.send_to_process(parent, Info::child(SIGCHLD, code, pid, uid, status));
        }
    }

    /// Ends a process by a signal (with 0x80 for a core dump that would be, in wait(2)'s form).
    pub fn terminate(&mut self, pid: i32, status: i32) {
        let Ok(process) = self.process(pid) else {
            return;
        };
        let host_pid = process.host_pid;
        self.end_process(pid, status);
        // It may have ended by itself.
        let _ = process::signal_process(host_pid, SIGKILL);
    }

    /// Signals a process group; how many got it.
    pub fn send_to_group(&mut self, group: i32, signal: i32) -> usize {
        let members: Vec<i32> = self
            .processes
            .values()
            .filter(|process| process.group == group && !process.is_zombie())
            .map(|process| process.pid)
            .collect();
        for pid in &members {
            self.send_to_process(*pid, Info::new(signal, SI_KERNEL));
        }
        members.len()
    }
}

impl Kernel {
    /// A disposition became "ignore": what was pending of it is dropped. POSIX sigaction().
    pub fn discard_ignored(&mut self, tid: i32, signal: i32) {
        let Ok(process) = self.process_of_mut(tid) else {
            return;
        };
        let handler = process.actions.lock().get(signal).handler;
        let by_default = matches!(
            default_action(signal),
            Default_::Ignore | Default_::Continue
        );
        if handler == SIG_IGN || handler == SIG_DFL && by_default {
            let dropped = Set::default().with(signal);
            process.pending.discard(dropped);
            let threads = process.threads.clone();
            self.discard_in_threads(&threads, dropped);
        }
    }

    /// The mask changed: what it held back takes effect, before the call returns.
    pub fn take_unblocked(&mut self, tid: i32) -> crate::syscalls::SysResult {
        use crate::syscalls::Outcome;
        let task = self.task(tid)?;
        let process = self.process(task.pid)?;
        let pid = process.pid;
        let ready = task.deliverable(&process.pending);
        for signal in (1..=super::signals::LAST).filter(|signal| ready.has(*signal)) {
            self.notice(pid, Some(tid), signal);
            if !self.tasks.contains_key(&tid) {
                return Ok(Outcome::Gone);
            }
        }
        Ok(Outcome::Value(0))
    }

    /// Takes a pending signal of `wanted`, if there is one.
    pub fn take_signal(&mut self, tid: i32, wanted: Set) -> crate::errno::Result<Option<Info>> {
        let pid = self.task(tid)?.pid;
        let process = self.processes.get_mut(&pid).ok_or(Errno::ESRCH)?;
        let task = self.tasks.get_mut(&tid).ok_or(Errno::ESRCH)?;
        let mut found = task.take_signal(&mut process.pending, wanted);
        if let Some(info) = &mut found {
            self.signal_taken(pid, info);
        }
        Ok(found)
    }

    /// The native id of the sandbox's thread `tid`. A thread that has not called yet is looked for.
    #[must_use]
    pub fn find_thread(&self, tid: i32) -> Option<i32> {
        self.tids.get(&tid).copied()
    }
}

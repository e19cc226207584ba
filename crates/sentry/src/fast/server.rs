//! The thread that serves calls from slots: it spins over them while they come in a dense series, and sleeps else.
//!
//! It takes a processor while it spins, so it has to be worth one: started by a dense series of calls, it ends when none comes for a while, and stays away
//! for longer and longer where it loses its processor to others, where stubs give up waiting, or where most calls would have to wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use casemate_platform::channel::{Channel, DECLINED, DONE, REQUEST};
use casemate_platform::fast::{self, class};
use casemate_platform::notify::Call;
use rustix::thread::Pid;

use super::place::set_affinity;
use super::slots::Slot;
use super::window::Window;
use super::{CALL_ID, DENSE};
use crate::errno::{Errno, Result};
use crate::kernel::{Kernel, signals, wake};
use crate::syscalls::{Cx, Outcome};
use crate::trace;
use crate::vfs;
use crate::worker::{self, SharedKernel};

/// Without a request for so long, it sleeps.
const PATIENCE: Duration = Duration::from_micros(100);
/// A round that takes so long beside the calls that it serves: somebody else had the processor.
const LOST: Duration = Duration::from_micros(100);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// Where nothing came: the 100 us that it took to see so are a hundredth of this.
const LONGEST_QUIET_PAUSE: Duration = Duration::from_millis(8);
/// Where most calls have to wait, they will for a while.
const USELESS_PAUSE: Duration = Duration::from_millis(32);
const LONGEST_USELESS_PAUSE: Duration = Duration::from_secs(1);
/// Moves to another processor in one session.
const MOVES: u32 = 3;
/// Calls of one session that show that it works here.
const WORTH: u32 = 64;
/// Whoever is woken from here runs on this very processor (notify.rs), which serves others meanwhile. So that is put off: to the caller's next call that is made
/// in the ordinary way, which one is after so long; or to the session's end, which it is when nothing comes for so long.
const LONGEST_DEBT: Duration = Duration::from_micros(250);
const DEBT: Duration = Duration::from_micros(50);
/// From one look at those that are kept off its processor to the next.
const RELEASE: Duration = Duration::from_micros(500);
/// Rounds between two looks at the clock.
const ROUNDS: u32 = 16;
/// Calls of one session that may come in the ordinary way.
const FORGIVEN: u32 = 3;

#[derive(Debug, Clone)]
struct Active {
    tid: i32,
    channel: Arc<Channel>,
    index: usize,
}

/// What the kernel and the server share.
#[derive(Debug, Default)]
pub struct Handle {
    active: Vec<Active>,
    shared: Arc<Shared>,
    thread: Option<Thread>,
    tid: Option<Pid>,
    /// The sandbox's processors.
    cpus: Vec<usize>,
    not_before: Option<Instant>,
    pause: Duration,
    is_listening: bool,
    /// Calls that came in the ordinary way while it listened, since it last made progress, and how many it had served then.
    late: u32,
    progress: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// The server is wanted, or spins.
    is_wanted: AtomicBool,
    /// Counts changes of the list of slots.
    changes: AtomicU64,
    /// Stubs gave up in this session.
    is_late: AtomicBool,
    /// Calls that were served, ever.
    served: AtomicU64,
    /// Calls that were sent to the worker and answered there, likewise.
    answered: AtomicU64,
}

impl Handle {
    pub fn add(&mut self, tid: i32, slot: &Slot) {
        self.active.push(Active {
            tid,
            channel: slot.channel.clone(),
            index: slot.index,
        });
        self.shared.changes.fetch_add(1, Ordering::Release);
    }

    pub fn remove(&mut self, tid: i32) {
        self.active.retain(|active| active.tid != tid);
        self.shared.changes.fetch_add(1, Ordering::Release);
    }

    /// Away from the processor that the calling program runs on.
    fn place(&self, own: usize) {
        set_affinity(self.tid, self.cpus.iter().filter(|cpu| **cpu != own));
    }

    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.is_listening
    }

    /// A call came in the ordinary way while it listened.
    pub fn note_late(&mut self) {
        let progress = self.shared.served.load(Ordering::Relaxed);
        if progress > self.progress + u64::from(DENSE) {
            self.late = 0;
        }
        self.progress = progress;
        self.late += 1;
        if self.late <= FORGIVEN {
            return;
        }
        // It may not have a processor to hear of that.
        self.shared.is_late.store(true, Ordering::Relaxed);
        self.is_listening = false;
        for slot in &self.active {
            slot.channel.set_listening(slot.index, false);
        }
    }

    /// A call that had to be made in the ordinary way has been answered: its caller is about to make the next.
    pub fn note_answered(&self) {
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A dense series of calls is under way that slots could serve.
    pub fn wake(&mut self, processor: usize) {
        if self.shared.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        self.late = 0;
        self.shared.is_late.store(false, Ordering::Relaxed);
        self.shared.is_wanted.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            self.place(processor);
            thread.unpark();
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Quiet,
    /// The processor was wanted elsewhere.
    Crowded,
    /// Most calls have to wait.
    Useless,
}

/// The thread's life.
pub fn serve(kernel: &SharedKernel) -> ! {
    let (shared, has_kept_off) = {
        let mut kernel = worker::lock(kernel);
        kernel.fast.server.thread = Some(std::thread::current());
        kernel.fast.server.tid = crate::host::own_number();
        kernel.fast.server.cpus = kernel.machine.cpus.clone();
        (
            kernel.fast.server.shared.clone(),
            kernel.fast.kept_off.has_any(),
        )
    };
    loop {
        while !shared.is_wanted.load(Ordering::Acquire) {
            std::thread::park();
        }
        let mut session = Session {
            kernel,
            shared: &shared,
            has_kept_off: &has_kept_off,
            slots: Vec::new(),
            changes: u64::MAX,
            served: 0,
            declined: 0,
            moves: 0,
            owes_since: None,
            is_due: false,
        };
        let end = session.run();
        session.close(end);
    }
}

struct Session<'k> {
    kernel: &'k SharedKernel,
    shared: &'k Shared,
    has_kept_off: &'k AtomicBool,
    slots: Vec<Active>,
    changes: u64,
    served: u32,
    declined: u32,
    moves: u32,
    /// Since when there are threads to be woken.
    owes_since: Option<Instant>,
    /// For so long that the next call is to see to it.
    is_due: bool,
}

impl Session<'_> {
    fn run(&mut self) -> End {
        let mut last_request = Instant::now();
        let mut last_look = last_request;
        let mut last_release = last_request;
        let mut rounds = 0;
        let mut answered = 0;
        loop {
            if self.shared.changes.load(Ordering::Acquire) != self.changes {
                self.refresh();
                self.moves_away();
                last_look = Instant::now();
            }
            if self.serve_all() {
                last_request = Instant::now();
                last_look = last_request;
                self.see_to_debt(last_request);
                if self.declined > 16 && 2 * self.declined > self.served {
                    return End::Useless;
                }
                continue;
            }
            std::hint::spin_loop();
            rounds += 1;
            if rounds % ROUNDS != 0 {
                continue;
            }
            let now = Instant::now();
            let is_late = self.shared.is_late.load(Ordering::Relaxed);
            if is_late || now - last_look > LOST && self.is_missed() {
                return End::Crowded;
            }
            last_look = now;
            let before = answered;
            answered = self.shared.answered.load(Ordering::Relaxed);
            if answered != before {
                last_request = now;
            }
            if now - last_release > RELEASE {
                last_release = now;
                if self.has_kept_off.load(Ordering::Relaxed) {
                    worker::lock(self.kernel).let_go_of_busy(now);
                }
            }
            if self.owes_since.is_some() && now - last_request > DEBT {
                return End::Quiet;
            }
            if now - last_request > PATIENCE {
                if self.moves_away() {
                    last_request = Instant::now();
                    last_look = last_request;
                    continue;
                }
                return End::Quiet;
            }
        }
    }

    /// Whether a stub has given up lately: if none has, nobody missed it while others (those whom served calls woke) had its processor.
    fn is_missed(&self) -> bool {
        worker::lock(self.kernel).fast.server.late > 0
    }

    /// Leaves the processor to a caller that turns out to need it: after its last call it went on elsewhere than where it had been.
    fn moves_away(&mut self) -> bool {
        let own = rustix::thread::sched_getcpu();
        if self.moves >= MOVES {
            return false;
        }
        let mut kernel = worker::lock(self.kernel);
        // Who waits in a call was there long ago.
        let is_in_the_way = |slot: &Active| {
            let task = kernel.tasks.get(&slot.tid);
            slot.channel.processor(slot.index) == own
                && task.is_some_and(|task| task.blocked.is_none())
        };
        if !self.slots.iter().any(is_in_the_way) {
            return false;
        }
        self.moves += 1;
        kernel.fast.server.place(own);
        let processor = rustix::thread::sched_getcpu();
        kernel.note_server(processor);
        processor != own
    }

    /// The list of slots has changed: those that are new are told that somebody listens.
    fn refresh(&mut self) {
        let mut kernel = worker::lock(self.kernel);
        kernel.note_server(rustix::thread::sched_getcpu());
        kernel.fast.server.is_listening = true;
        self.changes = self.shared.changes.load(Ordering::Acquire);
        self.slots.clone_from(&kernel.fast.server.active);
        for slot in &self.slots {
            slot.channel.set_listening(slot.index, true);
        }
    }

    /// One look at every slot; whether there was anything.
    fn serve_all(&mut self) -> bool {
        let mut found = false;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.channel.state(slot.index) != REQUEST {
                continue;
            }
            let slot = slot.clone();
            let mut kernel = worker::lock(self.kernel);
            if std::mem::take(&mut self.is_due) && decline(&mut kernel, &slot) {
                return true;
            }
            match serve_slot(&mut kernel, &slot) {
                Some(true) => {
                    self.served += 1;
                    self.shared.served.fetch_add(1, Ordering::Relaxed);
                }
                Some(false) => self.declined += 1,
                None => continue,
            }
            found = true;
            if wake::has_ready() {
                self.owes_since.get_or_insert_with(Instant::now);
            }
            if kernel.result.is_some() {
                kernel.watcher.finish();
            }
        }
        found
    }

    /// A call that was sent to the worker need not come there (a program owns its slot): then they are woken from here.
    fn see_to_debt(&mut self, now: Instant) {
        let Some(since) = self.owes_since else {
            return;
        };
        if !wake::has_ready() {
            self.owes_since = None;
        } else if now - since > 2 * LONGEST_DEBT {
            self.wake_others();
        } else {
            self.is_due = now - since > LONGEST_DEBT;
        }
    }

    /// Those whom served calls have woken run again.
    fn wake_others(&mut self) {
        self.owes_since = None;
        worker::attend(self.kernel, worker::run_ready);
    }

    /// Says that nobody listens, looks a last time, and lets the next series wake it.
    fn close(mut self, end: End) {
        for slot in &self.slots {
            slot.channel.set_listening(slot.index, false);
        }
        self.serve_all();
        // Its processor is free: for whom it wakes, too.
        let mut kernel = worker::lock(self.kernel);
        kernel.fast.server.is_listening = false;
        kernel.let_all_go();
        drop(kernel);
        self.wake_others();
        let mut kernel = worker::lock(self.kernel);
        let server = &mut kernel.fast.server;
        let was_worth = self.served >= WORTH;
        server.pause = match end {
            End::Quiet if self.served >= DENSE => Duration::ZERO,
            End::Quiet => (server.pause * 2).clamp(FIRST_PAUSE, LONGEST_QUIET_PAUSE),
            End::Crowded if was_worth => FIRST_PAUSE,
            End::Useless => (server.pause * 2).clamp(USELESS_PAUSE, LONGEST_USELESS_PAUSE),
            End::Crowded => (server.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
        };
        server.not_before = Instant::now().checked_add(server.pause);
        self.shared.is_wanted.store(false, Ordering::Release);
    }
}

/// Serves a slot's request: true if with a result, false if it is to be made as an ordinary call. `None`: not now.
fn serve_slot(kernel: &mut Kernel, slot: &Active) -> Option<bool> {
    let tid = slot.tid;
    let task = kernel.tasks.get(&tid)?;
    // A thread that waits in a call makes no other one, whatever its slot says; one that is about to ask, for a signal, withdraws its request then.
    let is_its_own = task
        .slot
        .as_ref()
        .is_some_and(|own| Arc::ptr_eq(&own.channel, &slot.channel) && own.index == slot.index);
    let is_stopped = kernel.process(task.pid).is_ok_and(|own| own.is_stopped);
    if !is_its_own || task.blocked.is_some() || task.is_kicked || task.image.is_some() || is_stopped
    {
        return None;
    }
    if !slot.channel.take(slot.index) {
        return None;
    }
    let offered = slot.channel.offered(slot.index);
    let ip = {
        let space = task.space.lock();
        space.site_of(offered.slow).unwrap_or(offered.slow)
    };
    let call = Call {
        id: CALL_ID,
        tid,
        nr: offered.nr,
        ip: ip.wrapping_add(fast::AFTER),
        args: offered.args,
    };
    let place = (slot.channel.clone(), slot.index);
    let window = Window::new(
        tid,
        place,
        (call.nr, &call.args),
        (offered.path, offered.data),
    );
    let (result, out) = window.open(|| run(kernel, call));
    let Some(result) = result else {
        say_declined(kernel, slot);
        return Some(false);
    };
    slot.channel.finish(slot.index, result, out);
    // A signal for the caller is to come before the call's end: the frame of that (`frame`) ends it.
    if !kernel.tasks.get(&tid).is_some_and(|task| task.is_kicked) {
        slot.channel.set_state(slot.index, DONE);
    }
    Some(true)
}

/// Has a call made in the ordinary way, whatever it is: the worker that it goes to then wakes whoever is to be woken, on the caller's processor. False: withdrawn.
fn decline(kernel: &mut Kernel, slot: &Active) -> bool {
    let is_taken = slot.channel.take(slot.index);
    if is_taken {
        say_declined(kernel, slot);
    }
    is_taken
}

fn say_declined(kernel: &mut Kernel, slot: &Active) {
    let task = kernel.tasks.get_mut(&slot.tid);
    if let Some(own) = task.and_then(|task| task.slot.as_mut()) {
        own.is_declined = true;
    }
    slot.channel.set_state(slot.index, DECLINED);
}

/// The call's result; `None` if it has to wait, and so to be made in the ordinary way.
fn run(kernel: &mut Kernel, call: Call) -> Option<i64> {
    let task = kernel.tasks.get_mut(&call.tid)?;
    if !class(call.nr).is_served() || task.embryo.is_some() {
        return None;
    }
    task.carried = None;
    task.detached = None;
    let may_be = may_be_served(kernel, &call).unwrap_or(false);
    if !may_be {
        return None;
    }
    let begun = trace::begin(kernel, &call, true);
    let outcome = catch_unwind(AssertUnwindSafe(|| worker::dispatch(kernel, call, None)));
    let outcome = outcome.unwrap_or_else(|_| {
        worker::report_panic(&call);
        if let Ok(pid) = kernel.task(call.tid).map(|task| task.pid) {
            kernel.terminate(pid, signals::SIGKILL);
        }
        Ok(Outcome::Gone)
    });
    vfs::settle(kernel);
    if matches!(
        outcome,
        Ok(Outcome::Blocked | Outcome::Native | Outcome::Later)
    ) {
        // It is made again in the ordinary way, and counted there.
        trace::declined();
    } else {
        trace::end(kernel, &call, &outcome, begun);
        if let Ok(Outcome::Value(1..)) = outcome {
            kernel.note_transfer(&call);
        }
    }
    match outcome {
        Ok(Outcome::Value(value)) => Some(value),
        Err(Errno(number)) => Some(-i64::from(number)),
        Ok(Outcome::Gone) => Some(0),
        Ok(Outcome::Blocked | Outcome::Native | Outcome::Later) => {
            kernel.opening.remove(&call.tid);
            None
        }
    }
}

/// Whether a call that would have to wait leaves nothing behind: no part of it done, no mask changed, no lock queued for.
fn may_be_served(kernel: &mut Kernel, call: &Call) -> Result<bool> {
    let cx = Cx {
        kernel,
        call: *call,
        resumed: None,
    };
    let fd = call.args[0] as i32;
    Ok(match i64::from(call.nr) {
        libc::SYS_pread64 | libc::SYS_pwrite64 | libc::SYS_close
            if cx.kernel.concerns_windows(call, fd) =>
        {
            false
        }
        libc::SYS_dup2 if cx.kernel.concerns_windows(call, call.args[1] as i32) => false,
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 => is_at_once(&cx, None)?,
        libc::SYS_write | libc::SYS_pwrite64 => is_at_once(&cx, Some(call.args[2]))?,
        libc::SYS_sendfile => is_at_once(&cx, Some(call.args[3]))?,
        // How much is in memory yet.
        libc::SYS_writev => is_at_once(&cx, Some(u64::MAX))?,
        libc::SYS_fcntl => {
            matches!(
                call.args[1] as i32,
                libc::F_DUPFD
                    | libc::F_DUPFD_CLOEXEC
                    | libc::F_GETFD
                    | libc::F_SETFD
                    | libc::F_GETFL
                    | libc::F_SETFL
                    | libc::F_GETLK
                    | libc::F_OFD_GETLK
            ) || is_free_lock(cx.kernel, call)
        }
        libc::SYS_poll => call.args[2] as i32 == 0,
        libc::SYS_epoll_wait => call.args[3] as i32 == 0,
        libc::SYS_epoll_pwait => call.args[3] as i32 == 0 && call.args[4] == 0,
        _ => true,
    })
}

/// Whether a read of the first argument's file is over at once, or a write of so many bytes to it.
fn is_at_once(cx: &Cx<'_>, writes: Option<u64>) -> Result<bool> {
    let description = cx.description(cx.call.args[0] as i32)?;
    let writes = writes.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let may_wait = !description.is_nonblocking();
    Ok(description.file.is_at_once(writes, may_wait))
}

/// A lock that is taken, or not, at once; and given back while nobody waits for one: who does would be woken from here.
fn is_free_lock(kernel: &Kernel, call: &Call) -> bool {
    matches!(call.args[1] as i32, libc::F_SETLK | libc::F_OFD_SETLK) && kernel.lock_waits.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_not_woken_before_its_time() {
        let mut handle = Handle {
            not_before: Instant::now().checked_add(Duration::from_secs(60)),
            ..Handle::default()
        };
        handle.wake(0);
        assert!(!handle.shared.is_wanted.load(Ordering::Relaxed));
        handle.not_before = None;
        handle.wake(0);
        assert!(handle.shared.is_wanted.load(Ordering::Relaxed));
        assert!(!handle.shared.is_late.load(Ordering::Relaxed));
        handle.is_listening = true;
        for _ in 0..=FORGIVEN {
            handle.note_late();
        }
        assert!(!handle.is_listening);
        assert!(handle.shared.is_late.load(Ordering::Relaxed));
    }
}

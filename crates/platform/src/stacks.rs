//! Where each thread of this process is, for who debugs it: a thread walks its own stack when a signal asks it to.
//!
//! Everything is there before the jail is closed: the handler, and a place for each thread's answer. The handler makes no call and takes no memory; it goes by
//! the tables that panics are unwound by, so functions need no frame pointers. Programs cannot ask: their signals are the sentry's own matter, and the
//! host's come from who may signal the sentry, to whom this one does nothing.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Frames that are told of a thread.
pub const MOST_FRAMES: usize = 48;
/// A pod's sentry has 69 threads.
const MOST_THREADS: usize = 96;
/// Not passed on to programs, and no fault of ours: nothing here has breakpoints.
pub const SIGNAL: i32 = libc::SIGTRAP;

/// A thread's number, and its last answer.
struct Slot {
    tid: AtomicI32,
    answers: AtomicU32,
    depth: AtomicUsize,
    frames: [AtomicU64; MOST_FRAMES],
}

static SLOTS: [Slot; MOST_THREADS] = [const {
    Slot {
        tid: AtomicI32::new(0),
        answers: AtomicU32::new(0),
        depth: AtomicUsize::new(0),
        frames: [const { AtomicU64::new(0) }; MOST_FRAMES],
    }
}; MOST_THREADS];
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// This process's number; 0: nobody can be asked.
static OWN_PID: AtomicI32 = AtomicI32::new(0);
/// One is asked at a time.
static ASKING: Mutex<()> = Mutex::new(());

thread_local! {
    static OWN: Cell<Option<&'static Slot>> = const { Cell::new(None) };
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        note: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, is_exact: *mut c_int) -> usize;
}

/// _URC_NO_REASON, _URC_END_OF_STACK
const GO_ON: c_int = 0;
const ENOUGH: c_int = 5;

/// Gives the calling thread, whose number is `tid`, a place for its answers.
pub fn register(tid: i32) {
    if OWN.get().is_some() {
        return;
    }
    if let Some(slot) = SLOTS.get(TAKEN.fetch_add(1, Ordering::Relaxed)) {
        slot.tid.store(tid, Ordering::Release);
        OWN.set(Some(slot));
    }
}

/// From here on threads can be asked.
///
/// # Errors
/// As sigaction(2).
pub fn install() -> io::Result<()> {
    // What the unwinder makes at its first use is made here.
    note_own();
    // SAFETY: an all-zero sigaction is a legal one; the handler has the signature that goes without SA_SIGINFO, and only does what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_asked as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        crate::check(libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()).into())?;
    }
    OWN_PID.store(std::process::id().cast_signed(), Ordering::Release);
    Ok(())
}

/// The addresses of the instructions that the thread is at, the innermost first. Empty: it is none of ours, or did not answer in time.
///
/// `wait` is called between looks for the answer, and says whether there is time for another.
pub fn of(tid: i32, wait: impl Fn() -> bool) -> Vec<u64> {
    let pid = OWN_PID.load(Ordering::Acquire);
    let slot = SLOTS
        .iter()
        .find(|slot| slot.tid.load(Ordering::Acquire) == tid);
    let (Some(slot), true) = (slot, pid > 0 && tid > 0) else {
        return Vec::new();
    };
    let _one = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = slot.answers.load(Ordering::Acquire);
    // SAFETY: no memory is passed; the thread is one of ours, whose handler is installed.
    if unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, SIGNAL) } != 0 {
        return Vec::new();
    }
    while slot.answers.load(Ordering::Acquire) == before {
        if !wait() {
            return Vec::new();
        }
    }
    let depth = slot.depth.load(Ordering::Relaxed).min(MOST_FRAMES);
    let frames = slot.frames.iter().take(depth);
    frames.map(|frame| frame.load(Ordering::Relaxed)).collect()
}

extern "C" fn on_asked(_signal: c_int) {
    note_own();
}

struct Walk {
    slot: &'static Slot,
    depth: usize,
    /// The frames of this module and of the signal are over.
    is_within: bool,
}

fn note_own() {
    let Some(slot) = OWN.get() else { return };
    let mut walk = Walk {
        slot,
        depth: 0,
        is_within: false,
    };
    // SAFETY: `note` is given nothing but `walk`, which outlives the call. The tables are the linker's; on a stack that is broken the process ends, as it would
    // in any case.
    unsafe { _Unwind_Backtrace(note, (&raw mut walk).cast()) };
    slot.depth.store(walk.depth, Ordering::Relaxed);
    slot.answers.fetch_add(1, Ordering::Release);
}

extern "C" fn note(context: *mut c_void, walk: *mut c_void) -> c_int {
    // SAFETY: it is `note_own`'s, whose only other use of it waits for this call.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let mut is_exact = 0;
    // SAFETY: the unwinder's own context, and a number that lives here.
    let at = unsafe { _Unwind_GetIPInfo(context, &raw mut is_exact) } as u64;
    // Only what a signal interrupted is where it says; callers are where they return to, behind their call.
    walk.is_within |= is_exact != 0;
    if walk.is_within {
        // 0: where a thread begins.
        let (Some(frame), Some(at)) = (
            walk.slot.frames.get(walk.depth),
            at.checked_sub(u64::from(is_exact == 0)),
        ) else {
            return ENOUGH;
        };
        frame.store(at, Ordering::Relaxed);
        walk.depth += 1;
    }
    GO_ON
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn own_tid() -> i32 {
        // SAFETY: no memory is passed.
        unsafe { libc::gettid() }
    }

    fn yield_once() -> bool {
        std::thread::yield_now();
        true
    }

    #[inline(never)]
    fn wait_here(end: &Receiver<()>) {
        let _ = end.recv();
        std::hint::black_box(());
    }

    #[test]
    fn a_thread_that_waits_is_where_it_waits() {
        register(own_tid());
        install().expect("sigaction");
        let (tell, told) = channel();
        let (end, ended) = channel();
        let waiter = std::thread::spawn(move || {
            register(own_tid());
            tell.send(own_tid()).expect("received");
            wait_here(&ended);
        });
        let tid = told.recv().expect("sent");
        let function = wait_here as *const () as u64;
        let is_there = |at: &u64| (function..function + 512).contains(at);
        let mut frames = Vec::new();
        // It may still be on the way there.
        while !frames.iter().any(is_there) {
            frames = of(tid, yield_once);
        }
        assert!(frames.len() > 3, "{frames:x?}");
        end.send(()).expect("received");
        waiter.join().expect("it ends");
    }

    #[test]
    fn a_thread_that_works_is_interrupted() {
        register(own_tid());
        install().expect("sigaction");
        let done = Arc::new(AtomicU32::new(0));
        let (seen, (tell, told)) = (done.clone(), channel());
        let worker = std::thread::spawn(move || {
            register(own_tid());
            tell.send(own_tid()).expect("received");
            while seen.load(Ordering::Relaxed) == 0 {
                std::hint::spin_loop();
            }
        });
        let tid = told.recv().expect("sent");
        assert!(!of(tid, yield_once).is_empty());
        done.store(1, Ordering::Relaxed);
        worker.join().expect("it ends");
    }

    #[test]
    fn strangers_are_not_asked() {
        install().expect("sigaction");
        assert_eq!(of(1, yield_once), [] as [u64; 0]);
        assert_eq!(of(0, yield_once), [] as [u64; 0]);
    }
}

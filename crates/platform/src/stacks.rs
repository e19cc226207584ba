//! Where each thread of this process is, for who debugs it: a thread walks its own stack when a signal asks it to.
//!
//! Everything is there before the jail is closed: the handler, and a place for each thread's answer. The handler makes no call and takes no memory; it goes by
//! frame pointers, which ours and the standard library's functions have (.cargo/config.toml). Functions of libc's have none: of a thread that is in one, or at
//! the first two instructions of any, the caller is left out, and where rbp serves for something else there, all callers are. Threads wait in syscall(2),
//! which is ours for that (call.s). Programs cannot ask: their signals are the sentry's own matter, and the host's come from who may signal the sentry, to whom
//! this one does nothing.

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
    /// With the end of the thread's stack.
    static OWN: Cell<Option<(&'static Slot, u64)>> = const { Cell::new(None) };
}

unsafe extern "C" {
    /// The linker's: code lies between them.
    static __executable_start: u8;
    static etext: u8;
}

/// Gives the calling thread, whose number is `tid`, a place for its answers.
pub fn register(tid: i32) {
    if OWN.get().is_some() {
        return;
    }
    if let Some(slot) = SLOTS.get(TAKEN.fetch_add(1, Ordering::Relaxed)) {
        slot.tid.store(tid, Ordering::Release);
        OWN.set(Some((slot, end_of_stack(tid))));
    }
}

/// Above everything that the calling thread calls. 0: it is not known, and nothing of it is read.
fn end_of_stack(tid: i32) -> u64 {
    if tid.cast_unsigned() == std::process::id() {
        // What the kernel put above a process's first frame. glibc would read /proc/self/maps, musl probe page by page.
        // SAFETY: no memory is passed.
        return unsafe { libc::getauxval(libc::AT_RANDOM) };
    }
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the thread is the calling one; `attributes` is made by the first call, read by the second and not used after the third.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) != 0 {
            return 0;
        }
        libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    start as u64 + size as u64
}

/// From here on threads can be asked.
///
/// # Errors
/// As sigaction(2).
pub fn install() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a legal one; the handler has the signature that goes with SA_SIGINFO, and only does what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_asked as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
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

extern "C" fn on_asked(_signal: c_int, _from: *mut libc::siginfo_t, context: *mut c_void) {
    let Some((slot, end)) = OWN.get() else { return };
    // SAFETY: the kernel passes a handler with SA_SIGINFO the thread's registers.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |number: c_int| registers[number.cast_unsigned() as usize].cast_unsigned();
    let place = Place {
        at: register(libc::REG_RIP),
        lowest: register(libc::REG_RSP),
        frame: register(libc::REG_RBP),
    };
    let mut depth = 0;
    for (frame, at) in slot.frames.iter().zip(place.callers(end)) {
        frame.store(at, Ordering::Relaxed);
        depth += 1;
    }
    slot.depth.store(depth, Ordering::Relaxed);
    slot.answers.fetch_add(1, Ordering::Release);
}

/// A function that has not returned yet.
struct Place {
    at: u64,
    /// Its frame is no lower than this.
    lowest: u64,
    /// Where its caller's `frame` is kept, and above that where it returns to.
    frame: u64,
}

impl Place {
    /// The addresses that it and its callers are at. `end` is the end of the stack that `lowest` lies on: between them all can be read.
    fn callers(self, end: u64) -> impl Iterator<Item = u64> {
        let callers = std::iter::successors(Some(self), move |place| place.caller(end));
        callers.map(|place| place.at)
    }

    /// `None`: it is the first, or what is said to be its frame is none.
    fn caller(&self, end: u64) -> Option<Self> {
        const SIZE: u64 = 16;
        let is_frame = self.frame.is_multiple_of(8)
            && self.frame >= self.lowest
            && self.frame <= end.checked_sub(SIZE)?;
        if !is_frame {
            return None;
        }
        // SAFETY: it lies on the calling thread's stack, above what it has pushed; any bits are good.
        let [frame, back] = unsafe { (self.frame as *const [u64; 2]).read_volatile() };
        let code = &raw const __executable_start as u64..&raw const etext as u64;
        // Within the call: what follows it may be another function already.
        let at = back.checked_sub(1).filter(|at| code.contains(at))?;
        Some(Self {
            at,
            lowest: self.frame + SIZE,
            frame,
        })
    }
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

    /// The places that are found on a stack of these words, whose first frame is at its beginning. Addresses in it are numbers of words.
    fn found(words: &[u64]) -> Vec<u64> {
        const CODE: u64 = 100;
        let code = own_tid as *const () as u64;
        let mut stack = [0; 8];
        let start = stack.as_mut_ptr() as u64;
        for (word, value) in stack.iter_mut().zip(words) {
            *word = match *value {
                CODE.. => code + value,
                words => start + words * 8,
            };
        }
        let place = Place {
            at: code,
            lowest: start,
            frame: start,
        };
        let found = place.callers(start + words.len() as u64 * 8);
        found.map(|at| at - code).collect()
    }

    #[test]
    fn callers_are_found_up_to_a_frame_that_is_none() {
        assert_eq!(found(&[2, 101, 4, 102, 0, 103]), [0, 100, 101, 102]);
        assert_eq!(found(&[2, 101, 0, 102]), [0, 100, 101], "down");
        assert_eq!(found(&[2, 101, 3, 102]), [0, 100, 101], "within its own");
        assert_eq!(found(&[3, 101, 0, 4, 102]), [0, 100, 101], "a word between");
        assert_eq!(found(&[7, 101, 0, 102]), [0, 100], "above the end");
        assert_eq!(found(&[3, 101, 0, 102]), [0, 100], "half above the end");
        assert_eq!(found(&[2, 101, 4, 3, 0, 103]), [0, 100], "no code");
        assert_eq!(found(&[]), [0]);
    }

    #[test]
    fn strangers_are_not_asked() {
        install().expect("sigaction");
        assert_eq!(of(1, yield_once), [] as [u64; 0]);
        assert_eq!(of(0, yield_once), [] as [u64; 0]);
    }
}

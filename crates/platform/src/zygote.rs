//! The zygote: the one process that carries the filter from birth and forks each program that is started from outside.
//!
//! It lives in namespaces of its own (user, mount with an empty read-only root, network, ipc, uts, cgroup), without capabilities, and its children in a
//! further pid namespace. It waits in `magic::ZYGOTE`; when that is answered it forks, and the child executes the loader. It dies with the sentry,
//! and the sandbox's first process with it, and with that the pid namespace.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use casemate_host::seccomp;

use crate::loader::LOADER_FD;
use crate::notify::Listener;
use crate::{check, filter, magic};

/// The zygote's process id in the sentry's pid namespace, and the listener of everything that it forks.
#[derive(Debug)]
pub struct Zygote {
    pub pid: i32,
    pub listener: Listener,
}

/// A zygote that makes its namespaces while its sentry starts: 1.7 ms of work that the sentry need not wait for where another core is free.
#[derive(Debug)]
#[must_use = "the zygote may have failed"]
pub struct Starting {
    pid: i32,
    shared: &'static Shared,
}

/// What the two sides tell each other before the listener works.
#[derive(Debug)]
struct Shared {
    /// The listener's number plus 1, or a negated errno.
    listener: AtomicI32,
    /// Where the zygote failed: an index into STEPS.
    step: AtomicI32,
}

const STEPS: [&str; 8] = [
    "owner of the user namespace",
    "namespaces",
    "id maps",
    "private mounts",
    "empty root",
    "pid namespace",
    "dropping privileges",
    "seccomp filter",
];

/// Starts the zygote. The caller has one thread, and may create user namespaces and map ids in them (its uid 0 only with CAP_SETFCAP: before it drops that).
/// Programs will have `uid` and `gid`, of the caller's own user namespace, for the host: the ids that the sentry will have, too.
///
/// Until `Starting::wait` has returned, the two share a descriptor table: the caller closes nothing that it did not open itself.
///
/// # Errors
/// The step that failed, and the host's error.
pub fn start(uid: u32, gid: u32) -> Result<Starting, (&'static str, io::Error)> {
    let shared = shared_page().map_err(|error| ("mmap", error))?;
    // The descriptor table is shared until the listener is in it: nothing can be sent through a filter that nobody answers yet.
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: no stack and no CLONE_VM: fork semantics. The caller has one thread, so no lock is held by one that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
        .map_err(|error| ("clone", error))?;
    if pid == 0 {
        zygote(shared, uid, gid)
    }
    let pid = i32::try_from(pid).unwrap_or(i32::MAX);
    Ok(Starting { pid, shared })
}

impl Starting {
    /// As `Zygote::pid`.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the zygote is confined and may be asked for programs.
    ///
    /// # Errors
    /// As `start`.
    pub fn wait(self) -> Result<Zygote, (&'static str, io::Error)> {
        let Self { pid, shared } = self;
        while shared.listener.load(Ordering::Acquire) == 0 {
            wait(&shared.listener, 0);
        }
        let fd = shared.listener.load(Ordering::Acquire);
        if fd < 0 {
            let step = usize::try_from(shared.step.load(Ordering::Acquire)).unwrap_or(0);
            let name = STEPS.get(step).copied().unwrap_or("start");
            return Err((name, io::Error::from_raw_os_error(-fd)));
        }
        // SAFETY: the zygote installed the filter while it shared our descriptor table, left the listener to us and never uses it.
        let listener = Listener::new(unsafe { OwnedFd::from_raw_fd(fd - 1) });
        Ok(Zygote { pid, listener })
    }
}

/// Takes the ids, without the capabilities of others that come with them. A user namespace belongs to the effective user of who makes it, and only its owner
/// may later read the memory of what lives in there without a capability: that is to be the sentry, whose ids will be these.
fn become_owner(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no memory is passed, in a process of one thread.
    unsafe {
        if gid != libc::getegid() {
            check(libc::syscall(libc::SYS_setresgid, -1, gid, -1))?;
        }
        if uid != libc::geteuid() {
            check(libc::syscall(libc::SYS_setresuid, -1, uid, -1))?;
        }
    }
    Ok(())
}

/// New namespaces of all kinds but that of processes, and the ids in them.
fn enter_namespaces(uid: u32, gid: u32, step: impl Fn(i32)) -> io::Result<()> {
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    // SAFETY: no memory is passed. A change of credentials leaves a process undumpable, and so the files of its /proc/PID to root.
    unsafe {
        check(libc::unshare(namespaces).into())?;
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
    }
    step(2);
    map_ids(uid, gid)
}

fn shared_page() -> io::Result<&'static Shared> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is zeroed, which is a legal Shared, larger and more aligned than one, and never unmapped; all access is atomic.
    Ok(unsafe { &*page.cast::<Shared>() })
}

/// Root inside is the sentry's own id outside: nothing else exists there.
fn map_ids(uid: u32, gid: u32) -> io::Result<()> {
    // Without CAP_SETGID a group may only be mapped where setgroups is refused.
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn wait(word: &AtomicI32, value: i32) {
    // SAFETY: the word is aligned and mapped for ever.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, 0);
    }
}

fn wake(word: &AtomicI32) {
    // SAFETY: as in `wait`.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}

/// The zygote's whole life. Owns no descriptor: what it opens stays open until it closes everything at once, in a table of its own.
fn zygote(shared: &Shared, uid: u32, gid: u32) -> ! {
    be_killed_first();
    let report = match confine(shared, uid, gid) {
        Ok(listener) => listener + 1,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    };
    shared.listener.store(report, Ordering::Release);
    wake(&shared.listener);
    if report < 0 {
        // SAFETY: ends this process without running anything of the sentry's.
        unsafe { libc::_exit(1) }
    }
    // SAFETY: all calls from here on pass numbers, or C strings and arrays that live on this stack; the process has one thread.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 2); // CLOSE_RANGE_UNSHARE
        let mut child = 0;
        loop {
            libc::syscall(i64::from(magic::ZYGOTE), child);
            child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
            if child == 0 {
                become_program();
            } else if child < 0 {
                child = -libc::c_long::from(*libc::__errno_location());
            }
        }
    }
}

/// Programs are killed before their sentry when memory is short. Raising one's own score is always permitted; where there is no /proc, sizes decide.
fn be_killed_first() {
    const PATH: &str = "/proc/self/oom_score_adj";
    const ABOVE: i32 = 100;
    const MAX: i32 = 1000;
    let own = fs::read_to_string(PATH).unwrap_or_default();
    if let Ok(score) = own.trim().parse::<i32>() {
        let _ = fs::write(PATH, (score + ABOVE).min(MAX).to_string());
    }
}

/// In the forked child: dies with the zygote, and executes the loader.
fn become_program() -> ! {
    let empty: &CStr = c"";
    let arguments = [empty.as_ptr(), std::ptr::null()];
    // SAFETY: as in `zygote`.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::syscall(
            libc::SYS_execveat,
            LOADER_FD,
            empty.as_ptr(),
            arguments.as_ptr(),
            arguments.as_ptr().add(1),
            libc::AT_EMPTY_PATH,
        );
        libc::_exit(127)
    }
}

/// Leaves everything of the host behind and installs the filter; returns the listener's number.
fn confine(shared: &Shared, uid: u32, gid: u32) -> io::Result<RawFd> {
    let step = |number: i32| shared.step.store(number, Ordering::Release);
    become_owner(uid, gid)?;
    step(1);
    enter_namespaces(uid, gid, step)?;
    // SAFETY: plain calls without memory, in a process of one thread.
    unsafe {
        check(libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
        check(libc::syscall(libc::SYS_setresuid, 0, 0, 0))?;
        // After the change of ids, which would clear it.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())?;
        libc::setsid();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for signal in 1..64 {
            // The host reaps what ends: the sentry keeps the books of wait(2).
            let disposition = if signal == libc::SIGCHLD {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            };
            libc::signal(signal, disposition);
        }
        let no_core = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
    }
    step(3);
    // SAFETY: C strings; null pointers where mount(2) ignores them.
    unsafe {
        let none = std::ptr::null();
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()).into())?;
    }
    step(4);
    empty_root()?;
    step(5);
    // SAFETY: no memory is passed.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID) }.into())?;
    step(6);
    drop_privileges()?;
    step(7);
    let flags = seccomp::FLAG_NEW_LISTENER | seccomp::FLAG_WAIT_KILLABLE_RECV;
    match seccomp::install(&filter::program(), flags)? {
        Some(listener) => Ok(listener.into_raw_fd()),
        None => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// An empty read-only tmpfs as the root, and nothing else in the mount namespace.
fn empty_root() -> io::Result<()> {
    const FSCONFIG_SET_STRING: i32 = 1;
    const FSCONFIG_CMD_CREATE: i32 = 6;
    const MOVE_MOUNT_F_EMPTY_PATH: i32 = 4;
    const MOUNT_ATTR: u32 = 0x1 | 0x2 | 0x4 | 0x8; // read-only, nosuid, nodev, noexec
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: C strings and null pointers where the calls take none; descriptors that these calls returned.
    unsafe {
        let context = check(libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))?;
        let key = c"size".as_ptr();
        check(libc::syscall(
            libc::SYS_fsconfig,
            context,
            FSCONFIG_SET_STRING,
            key,
            c"4k".as_ptr(),
            0,
        ))?;
        check(libc::syscall(
            libc::SYS_fsconfig,
            context,
            FSCONFIG_CMD_CREATE,
            null,
            null,
            0,
        ))?;
        let root = check(libc::syscall(libc::SYS_fsmount, context, 0, MOUNT_ATTR))?;
        let empty = c"".as_ptr();
        let slash = c"/".as_ptr();
        check(libc::syscall(
            libc::SYS_move_mount,
            root,
            empty,
            libc::AT_FDCWD,
            slash,
            MOVE_MOUNT_F_EMPTY_PATH,
        ))?;
        check(libc::fchdir(i32::try_from(root).map_err(io::Error::other)?).into())?;
        let here = c".".as_ptr();
        check(libc::syscall(libc::SYS_pivot_root, here, here))?;
        check(libc::umount2(here, libc::MNT_DETACH).into())?;
        check(libc::chdir(slash).into()).map(drop)
    }
}

fn drop_privileges() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let none = [0_u32; 6];
    // SAFETY: capset reads the header and two triples of 32-bit sets.
    unsafe {
        for capability in 0..64 {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::syscall(
            libc::SYS_capset,
            &raw const header,
            none.as_ptr(),
        ))
        .map(drop)
    }
}

//! The threads that serve calls: receive one, handle it, answer, and run again what became ready meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use casemate_platform::magic;
use casemate_platform::notify::{Answer, Call, Listener};

use crate::errno::Errno;
use crate::fast::Window;
use crate::kernel::deliver::Next;
use crate::kernel::task::{Blocked, Restart};
use crate::kernel::wake::WaitQueue;
use crate::kernel::{Kernel, signals};
use crate::syscalls::{Cx, Outcome, SysResult, sandboxed, table};
use crate::trace;
use crate::vfs;

/// The kernel, shared between the workers and the watcher.
pub type SharedKernel = Arc<Mutex<Kernel>>;

/// Some 10 us.
const SPINS: u32 = 1000;

/// Waits for the kernel: actively at first, since most calls hold it for a microsecond, and a sleeper's wake-up can cost sixty.
pub fn lock(kernel: &SharedKernel) -> MutexGuard<'_, Kernel> {
    for _ in 0..SPINS {
        if let Ok(guard) = kernel.try_lock() {
            return guard;
        }
        std::hint::spin_loop();
    }
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does some work on the kernel, and sends its answers after that: whom an answer wakes runs at once, on this very processor, and what it asks next would
/// find the kernel held by a thread that does not run. A kick is no reason to hurry: a call that was received is not interrupted (WAIT_KILLABLE_RECV).
pub fn attend(kernel: &SharedKernel, work: impl FnOnce(&mut Kernel)) {
    let mut held = lock(kernel);
    held.unsent = Some(Vec::new());
    work(&mut held);
    let unsent = held.unsent.take().unwrap_or_default();
    let listener = held.listener.clone();
    drop(held);
    for (id, answer) in unsent {
        // A caller that was killed meanwhile needs none.
        let _ = listener.answer(id, answer);
    }
}

/// Serves until no process is left, or the sandbox's first has ended.
pub fn serve(kernel: &SharedKernel, listener: &Listener) {
    while let Ok(Some(call)) = listener.receive() {
        attend(kernel, |kernel| {
            handle(kernel, call);
            run_ready(kernel);
            if kernel.result.is_some() {
                kernel.watcher.finish();
            }
        });
    }
    // Nobody is left who could call, nor a zygote to fork anybody: whatever killed it killed the sandbox.
    let mut kernel = lock(kernel);
    kernel.result.get_or_insert(signals::SIGKILL);
    kernel.watcher.finish();
}

fn handle(kernel: &mut Kernel, mut call: Call) {
    if call.tid == kernel.zygote {
        return zygote_call(kernel, call);
    }
    if !kernel.tasks.contains_key(&call.tid) && !bind(kernel, &call) {
        // Its process is ending, or its creator was killed before it was known: then it is nobody's.
        return kernel.end_stranger(call.tid);
    }
    if kernel
        .tasks
        .get(&call.tid)
        .is_some_and(|task| task.embryo.is_some())
        && may_concern_a_child(call.nr)
    {
        kernel.bind_child_of(call.tid);
    }
    if !kernel.births.is_empty() {
        kernel.end_birth(&call);
    }
    if has_heirs(call.nr) {
        kernel.let_go(call.tid);
    }
    let window = kernel.arrive(&mut call);
    // A call made again after the host interrupted it finds its old wait gone.
    kernel.unblock(call.tid);
    let carried = carried(kernel, &call);
    run_within(kernel, call, carried, window);
}

/// Whether the thread's affinity becomes another's too: a child's, or that of the process's first thread, which execve(2) makes it.
fn has_heirs(nr: i32) -> bool {
    matches!(
        i64::from(nr),
        libc::SYS_clone
            | libc::SYS_clone3
            | libc::SYS_fork
            | libc::SYS_vfork
            | libc::SYS_execve
            | libc::SYS_execveat
    )
}

/// What the call is to remember: it is the same that a signal without a handler interrupted, whose time limit goes on.
fn carried(kernel: &mut Kernel, call: &Call) -> Option<Blocked> {
    let task = kernel.tasks.get_mut(&call.tid)?;
    if call.nr == magic::DELIVER {
        return None;
    }
    let before = *task.carried.take()?;
    let is_same = before.call.nr == call.nr && before.call.ip == call.ip;
    (is_same && before.call.args == call.args).then_some(Blocked {
        call: *call,
        ..before
    })
}

/// Whether a call could tell that its caller's newest child is not on the books yet. Other calls need not wait for the host to say who that is:
/// its own first call mostly does, and asking costs 20 us.
fn may_concern_a_child(nr: i32) -> bool {
    matches!(
        i64::from(nr),
        libc::SYS_clone
            | libc::SYS_fork
            | libc::SYS_vfork
            | libc::SYS_execve
            | libc::SYS_execveat
            | libc::SYS_exit
            | libc::SYS_exit_group
            | libc::SYS_wait4
            | libc::SYS_waitid
            | libc::SYS_kill
            | libc::SYS_tkill
            | libc::SYS_tgkill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_rt_tgsigqueueinfo
            | libc::SYS_setpgid
            | libc::SYS_getpgid
            | libc::SYS_getsid
            | libc::SYS_pidfd_open
            | libc::SYS_prlimit64
            | libc::SYS_getpriority
            | libc::SYS_setpriority
            | libc::SYS_sched_setaffinity
            | libc::SYS_sched_getaffinity
            | libc::SYS_sched_setscheduler
            | libc::SYS_sched_getscheduler
            | libc::SYS_sched_setparam
            | libc::SYS_sched_getparam
            | libc::SYS_sched_setattr
            | libc::SYS_sched_getattr
            | libc::SYS_ptrace
            | libc::SYS_process_vm_readv
            | libc::SYS_process_vm_writev
            | libc::SYS_open
            | libc::SYS_openat
            | libc::SYS_getdents64
    )
}

/// The zygote's own code is trusted: it waits for work, forks, and its child executes the loader.
fn zygote_call(kernel: &mut Kernel, call: Call) {
    if call.nr != magic::ZYGOTE {
        return kernel.answer(&call, Answer::Continue);
    }
    kernel.zygote_forked(call.args[0] as i32);
    kernel.zygote_call = Some(call);
    kernel.spawn_next();
}

fn bind(kernel: &mut Kernel, call: &Call) -> bool {
    kernel.bind_spawned(call.tid) || kernel.bind_caller(call.tid)
}

/// Runs a call, for the first time or after it waited, and answers it.
fn run(kernel: &mut Kernel, call: Call, resumed: Option<Blocked>) {
    run_within(kernel, call, resumed, None);
}

/// As that, with its data in a slot. A panic is a report, and ends that program.
fn run_within(kernel: &mut Kernel, call: Call, resumed: Option<Blocked>, window: Option<Window>) {
    let is_new = resumed.is_none();
    let begun = trace::begin(kernel, &call, is_new);
    let serve = || catch_unwind(AssertUnwindSafe(|| dispatch(kernel, call, resumed)));
    let (outcome, out) = match window {
        Some(window) => window.open(serve),
        None => (serve(), 0),
    };
    let outcome = outcome.unwrap_or_else(|_| {
        report_panic(&call);
        if let Ok(pid) = kernel.task(call.tid).map(|task| task.pid) {
            kernel.terminate(pid, signals::SIGKILL);
        }
        Ok(Outcome::Gone)
    });
    vfs::settle(kernel);
    trace::end(kernel, &call, &outcome, begun);
    let result = match outcome {
        Ok(Outcome::Value(value)) => Some(value),
        Err(Errno(number)) => Some(-i64::from(number)),
        Ok(_) => None,
    };
    kernel.leave_written(&call, result, out);
    if let Ok(Outcome::Value(1..)) = outcome {
        kernel.note_transfer(&call);
    }
    match outcome {
        Ok(Outcome::Value(_)) | Err(_) if is_new => kernel.make_faster(&call),
        Ok(Outcome::Value(_)) => kernel.make_read_faster(&call),
        _ => {}
    }
    if !is_new && result.is_some() {
        kernel.keep_off_server(call.tid);
    }
    match (result, outcome) {
        (Some(value), _) => kernel.answer(&call, Answer::Value(value)),
        (None, Ok(Outcome::Native)) => kernel.answer(&call, Answer::Continue),
        (None, _) => {}
    }
}

pub(crate) fn report_panic(call: &Call) {
    crate::host::complain(&panic_report(call));
}

fn panic_report(call: &Call) -> String {
    let arguments: Vec<String> = call
        .args
        .iter()
        .map(|value| format!("{value:#x}"))
        .collect();
    format!(
        "panic in {}({}) of thread {}: its process is ended",
        table::name(call.nr),
        arguments.join(", "),
        call.tid
    )
}

pub(crate) fn dispatch(kernel: &mut Kernel, call: Call, resumed: Option<Blocked>) -> SysResult {
    match call.nr {
        #[cfg(test)]
        tests::PANICS => panic!("injected"),
        magic::LOADER => {
            if resumed.is_none() {
                kernel.move_image_to_leader(call.tid);
            }
            if kernel.holds(&call) {
                return Ok(Outcome::Later);
            }
            match kernel.loader_asks(&call) {
                Ok(count) => Ok(Outcome::Value(count)),
                Err(Errno::ENOSYS) => Err(Errno::ENOSYS),
                Err(_) => {
                    // Past the point of no return: as Linux, the process dies of it.
                    let pid = kernel.task(call.tid)?.pid;
                    kernel.terminate(pid, libc::SIGSEGV);
                    Ok(Outcome::Gone)
                }
            }
        }
        magic::CLONED => kernel.cloned(&call),
        magic::DELIVER => match kernel.stub_asks(&call)? {
            Next::Answer(value) => Ok(Outcome::Value(value)),
            Next::Gone => Ok(Outcome::Gone),
            Next::Hold => {
                let queue = kernel.process_of(call.tid)?.continue_queue.clone();
                hold(kernel, call, resumed, &queue)
            }
            Next::HoldOn(queue) => hold(kernel, call, resumed, &queue),
        },
        _ => {
            let is_new = resumed.is_none();
            let mut cx = Cx {
                kernel,
                call,
                resumed,
            };
            if is_new && let Some(outcome) = sandboxed::judge(&mut cx)? {
                return Ok(outcome);
            }
            table::dispatch(&mut cx)
        }
    }
}

/// A thread whose stub has asked waits for its answer.
fn hold(kernel: &mut Kernel, call: Call, resumed: Option<Blocked>, queue: &WaitQueue) -> SysResult {
    let mut cx = Cx {
        kernel,
        call,
        resumed,
    };
    let ticket = cx.ticket()?;
    queue.add(ticket);
    cx.wait(ticket, None, Restart::Uninterruptible, 0)
}

/// Runs a call whose answer was put off.
pub fn resume(kernel: &mut Kernel, call: Call) {
    run(kernel, call, None);
    run_ready(kernel);
}

/// Runs every call again whose wait was ended, until none is left.
pub fn run_ready(kernel: &mut Kernel) {
    loop {
        vfs::settle(kernel);
        let ready = kernel.take_ready();
        if ready.is_empty() {
            return;
        }
        for ticket in ready {
            let Some(task) = kernel.tasks.get(&ticket.tid) else {
                continue;
            };
            let Some(blocked) = &task.blocked else {
                continue;
            };
            if blocked.wait != ticket.wait {
                continue;
            }
            // A stopped process's calls make no progress; a traced thread in its stub asks whether it may.
            let may_ask = blocked.call.nr == magic::DELIVER && task.traced.is_some();
            if !may_ask
                && kernel
                    .process_of(ticket.tid)
                    .is_ok_and(|process| process.is_stopped)
            {
                continue;
            }
            if let Some(blocked) = kernel.unblock(ticket.tid) {
                run(kernel, blocked.call, Some(blocked));
            }
        }
    }
}

/// Ends the waits whose time is over, and lets timers expire; called by the watcher's clock.
pub fn run_expired(kernel: &mut Kernel) {
    let now = std::time::Instant::now();
    while let Some((&(time, tid), &ticket)) = kernel.deadlines.iter().next() {
        if time > now {
            break;
        }
        kernel.deadlines.remove(&(time, tid));
        let Some(blocked) = kernel
            .tasks
            .get_mut(&tid)
            .and_then(|task| task.blocked.as_mut())
        else {
            continue;
        };
        if blocked.wait == ticket.wait {
            blocked.timed_out = true;
            crate::kernel::wake::make_ready(&[ticket]);
        }
    }
    kernel.run_due(now);
    kernel.set_alarm();
    run_ready(kernel);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::boot::Parts;
    use crate::kernel::credentials::Credentials;
    use crate::kernel::machine::{Cgroup, SELF};
    use crate::kernel::task::{Limits, Process, Shared, Task};
    use crate::vfs::context::FsContext;
    use crate::vfs::fd_table::FdTable;

    /// A call that only tests have: `dispatch` panics in it.
    pub(super) const PANICS: i32 = 0x2FFF;

    fn open(path: &str) -> std::os::fd::OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect(path)
    }

    /// A kernel whose programs' calls nobody waits for.
    fn kernel() -> Kernel {
        let (jobs, _) = std::sync::mpsc::sync_channel(1);
        Parts {
            jobs,
            listener: Arc::new(Listener::received(open("/dev/null"))),
            zygote: 0,
            loader: Arc::new(open("/dev/null")),
            host_proc: open("/proc"),
            who: SELF.to_owned(),
            root: Arc::new(open("/")),
            own_mounts: Vec::new(),
            cgroup: Cgroup::default(),
            hostname: Vec::new(),
            domainname: Vec::new(),
            set_id_files: false,
            trace: crate::trace::Trace::default(),
            is_held: false,
            watcher: crate::watcher::Handle::new().expect("epoll"),
            pod: Arc::default(),
            host_ids: (0, 0),
            overrides: false,
        }
        .assemble()
        .expect("a root")
    }

    /// A process of the host's as the sandbox's process of that number.
    fn add(kernel: &mut Kernel, pid: i32, host: &std::process::Child) {
        let host_pid = i32::try_from(host.id()).expect("a pid");
        let fs = FsContext {
            root: kernel.root.clone(),
            cwd: kernel.root.clone(),
            umask: 0,
        };
        let credentials = Arc::new(Credentials::new(0, 0, Vec::new()));
        let files = Shared::new(FdTable::default());
        let task = Task::new((host_pid, pid, pid), credentials, files, Shared::new(fs));
        kernel.tids.insert(pid, host_pid);
        kernel.tasks.insert(host_pid, task);
        let limits = Limits([(u64::MAX, u64::MAX); 16]);
        kernel.add_process(Process::new(pid, host_pid, limits, 0));
    }

    #[test]
    fn answers_wait_until_nobody_holds_the_kernel() {
        let shared = Arc::new(Mutex::new(kernel()));
        let call = Call {
            id: 1,
            tid: 77,
            nr: libc::SYS_read as i32,
            ip: 0,
            args: [0; 6],
        };
        attend(&shared, |kernel| {
            kernel.answer(&call, Answer::Value(0));
            assert_eq!(kernel.unsent.as_ref().map(Vec::len), Some(1));
        });
        assert!(lock(&shared).unsent.is_none());
    }

    #[test]
    fn a_panic_in_a_call_ends_its_process_and_no_other() {
        let start = || Command::new("sleep").arg("1000").spawn().expect("sleep");
        let (mut first, mut second, mut third) = (start(), start(), start());
        let mut kernel = kernel();
        for (pid, host) in [(1, &first), (2, &second), (3, &third)] {
            add(&mut kernel, pid, host);
        }
        let call = |host: &std::process::Child, nr: i32| Call {
            id: 1,
            tid: i32::try_from(host.id()).expect("a pid"),
            nr,
            ip: 0,
            args: [7, 0xABC, 0, 0, 0, 1],
        };
        run(&mut kernel, call(&second, PANICS), None);
        use std::os::unix::process::ExitStatusExt;
        let ended = second.wait().expect("a child");
        assert_eq!(ended.signal(), Some(libc::SIGKILL));
        // Others are there, and served.
        assert!(first.try_wait().expect("a child").is_none());
        assert!(third.try_wait().expect("a child").is_none());
        let asked = dispatch(&mut kernel, call(&third, libc::SYS_getppid as i32), None);
        assert!(matches!(asked, Ok(Outcome::Value(_))), "{asked:?}");
        for host in [&mut first, &mut third] {
            host.kill()
                .and_then(|()| host.wait().map(drop))
                .expect("a child");
        }
    }

    #[test]
    fn a_panic_is_reported_with_the_call_s_arguments() {
        let report = panic_report(&Call {
            id: 1,
            tid: 77,
            nr: libc::SYS_read as i32,
            ip: 0,
            args: [7, 0xABC, 16, 0, 0, 0],
        });
        assert_eq!(
            report,
            "panic in read(0x7, 0xabc, 0x10, 0x0, 0x0, 0x0) of thread 77: its process is ended"
        );
    }
}

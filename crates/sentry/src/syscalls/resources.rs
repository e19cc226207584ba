//! What is used, and what may be: getrusage(2), times(2), sysinfo(2), getrlimit(2).

use super::system::prlimit64;
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::Errno;
use crate::kernel::wait::host_usage;
use crate::memory::Address;
use crate::vfs::proc::system::{boot_time, running};

const TICK_US: u64 = 10_000;

/// The caller's own is the host's count, exact; that of children is on the sentry's books, since the host reaps them itself.
pub fn getrusage(cx: &mut Cx<'_>, who: i32, usage: Address) -> SysResult {
    match who {
        libc::RUSAGE_SELF | libc::RUSAGE_THREAD => Ok(Outcome::Native),
        libc::RUSAGE_CHILDREN => {
            let process = cx.kernel.process_of_mut(cx.call.tid)?;
            let children = process.children_usage.clone().seen_by(process.host_pid);
            // Kept, so that what was told never shrinks.
            process.children_usage = children.clone();
            cx.memory()
                .write(usage, &super::process::usage_bytes(&children))?;
            DONE
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn times(cx: &mut Cx<'_>, buf: Address) -> SysResult {
    let process = cx.process()?;
    let own = host_usage(process.host_pid);
    let children = &process.children_usage;
    if !buf.is_null() {
        let all = [
            own.user_us,
            own.system_us,
            children.user_us,
            children.system_us,
        ];
        let bytes: Vec<u8> = all
            .iter()
            .flat_map(|time| (time / TICK_US).to_le_bytes())
            .collect();
        cx.memory().write(buf, &bytes)?;
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    value(now.tv_sec * 100 + now.tv_nsec / 10_000_000)
}

pub fn sysinfo(cx: &mut Cx<'_>, info: Address) -> SysResult {
    let memory = cx.kernel.machine.memory(&cx.kernel.host_proc);
    let (runs, _, _) = running(cx.kernel);
    let loads = cx.kernel.machine.load(runs);
    let mut words = vec![boot_time().as_secs()];
    // Fixed point, 16 bits behind it.
    words.extend(loads.map(|load| (load * 65536.0) as u64));
    words.extend([
        memory.total,
        memory.free,
        memory.shared,
        memory.buffers,
        0,
        0,
    ]);
    let tasks = u16::try_from(cx.kernel.tasks.len()).unwrap_or(u16::MAX);
    words.extend([u64::from(tasks), 0, 0, 1]);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    debug_assert_eq!(bytes.len(), 112, "struct sysinfo");
    cx.memory().write(info, &bytes)?;
    DONE
}

pub fn getrlimit(cx: &mut Cx<'_>, resource: u32, limit: Address) -> SysResult {
    if limit.is_null() {
        return Err(Errno::EFAULT);
    }
    prlimit64(cx, 0, resource, Address(0), limit)
}

pub fn setrlimit(cx: &mut Cx<'_>, resource: u32, limit: Address) -> SysResult {
    if limit.is_null() {
        return Err(Errno::EFAULT);
    }
    prlimit64(cx, 0, resource, limit, Address(0))
}

/// Kept, and told again; address space layout does not follow it.
pub fn personality(cx: &mut Cx<'_>, persona: u32) -> SysResult {
    let settings = &mut cx.process_mut()?.settings;
    let old = settings.personality;
    if persona != u32::MAX {
        settings.personality = persona;
    }
    value(old)
}

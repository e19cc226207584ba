//! ptrace(2): whom it may be of, and the requests. Those that let a tracee go, and what it does then, are in `kernel/ptrace`.

use casemate_platform::fast;

use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_SYS_PTRACE;
use crate::kernel::ptrace::ends::call_stage;
use crate::kernel::ptrace::frame::{Frame, USER_REGISTERS, register_at};
use crate::kernel::ptrace::{OPTIONS, Resume, Traced};
use crate::kernel::signals::{Info, LAST, SIGKILL, SIGSTOP, Set};
use crate::memory::{Address, half, word};
use crate::vfs::proc::process::may_trace_as;

const TRACEME: i32 = 0;
const PEEKTEXT: i32 = 1;
const PEEKDATA: i32 = 2;
const PEEKUSER: i32 = 3;
const POKETEXT: i32 = 4;
const POKEDATA: i32 = 5;
const POKEUSER: i32 = 6;
const CONT: i32 = 7;
const KILL: i32 = 8;
const SINGLESTEP: i32 = 9;
const GETREGS: i32 = 12;
const SETREGS: i32 = 13;
const GETFPREGS: i32 = 14;
const SETFPREGS: i32 = 15;
const ATTACH: i32 = 16;
const DETACH: i32 = 17;
const SYSCALL: i32 = 24;
const ARCH_PRCTL: i32 = 30;
const OLDSETOPTIONS: i32 = 21;
const SETOPTIONS: i32 = 0x4200;
const GETEVENTMSG: i32 = 0x4201;
const GETSIGINFO: i32 = 0x4202;
const SETSIGINFO: i32 = 0x4203;
const GETREGSET: i32 = 0x4204;
const SETREGSET: i32 = 0x4205;
const SEIZE: i32 = 0x4206;
const INTERRUPT: i32 = 0x4207;
const LISTEN: i32 = 0x4208;
const PEEKSIGINFO: i32 = 0x4209;
const GETSIGMASK: i32 = 0x420A;
const SETSIGMASK: i32 = 0x420B;
const GET_SYSCALL_INFO: i32 = 0x420E;

const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;

const REGISTERS_LEN: usize = USER_REGISTERS * 8;
const FLOATING_LEN: usize = 512;
/// `struct user`, and its debug registers: those that are there read as 0, and only that can be set.
const USER_LEN: u64 = 912;
const DEBUG_REGISTERS: std::ops::Range<u64> = 848..USER_LEN;
const SIGINFO_LEN: usize = 128;
const ARCH_X86_64: u32 = 0xC000_003E;
const MOST_PEEKED: i32 = 1024;

pub fn ptrace(cx: &mut Cx<'_>, request: i32, pid: i32, addr: u64, data: u64) -> SysResult {
    if !fast::tells_fs_base() {
        // The stub could not tell a thread's base registers.
        return Err(Errno::ENOSYS);
    }
    match request {
        TRACEME => return trace_me(cx),
        ATTACH => return attach(cx, pid, 0, false),
        SEIZE => return seize(cx, pid, addr, data),
        _ => {}
    }
    let tid = cx.kernel.find_thread(pid).ok_or(Errno::ESRCH)?;
    let traced = cx.kernel.traced(tid).ok_or(Errno::ESRCH)?;
    if traced.tracer != Some(cx.tid()) {
        return Err(Errno::ESRCH);
    }
    match request {
        KILL => {
            let own = cx.kernel.task(tid)?.pid;
            cx.kernel.send_to_process(own, Info::new(SIGKILL, 0));
            return DONE;
        }
        INTERRUPT if traced.is_seized => {
            cx.kernel.ask_to_stop(tid);
            return DONE;
        }
        INTERRUPT => return Err(Errno::EIO),
        _ if !traced.is_stopped() => return Err(Errno::ESRCH),
        _ => {}
    }
    let tracee = Tracee { tid };
    match request {
        PEEKTEXT | PEEKDATA => tracee.peek(cx, addr, data),
        POKETEXT | POKEDATA => tracee.poke(cx, addr, data),
        PEEKUSER => tracee.peek_user(cx, addr, data),
        POKEUSER => tracee.poke_user(cx, addr, data),
        GETREGS => tracee.read_registers(cx, Address(data), REGISTERS_LEN),
        SETREGS => tracee.write_registers(cx, Address(data), REGISTERS_LEN),
        GETFPREGS => tracee.read_state(cx, Address(data), FLOATING_LEN).and(DONE),
        SETFPREGS => tracee.write_state(cx, Address(data), FLOATING_LEN),
        GETREGSET | SETREGSET => tracee.register_set(cx, request, addr, Address(data)),
        ARCH_PRCTL => tracee.arch_prctl(cx, data, addr),
        SETOPTIONS | OLDSETOPTIONS => {
            let options = checked_options(data)?;
            tracee.traced(cx)?.options = options;
            DONE
        }
        GETEVENTMSG => {
            let message = tracee.traced(cx)?.message;
            cx.memory().write_u64(Address(data), message)?;
            DONE
        }
        GETSIGINFO => {
            let info = tracee
                .traced(cx)?
                .stop
                .as_ref()
                .and_then(|stop| stop.info.clone());
            let bytes = info.ok_or(Errno::EINVAL)?.to_bytes();
            cx.memory().write(Address(data), &bytes)?;
            DONE
        }
        SETSIGINFO => tracee.set_siginfo(cx, Address(data)),
        PEEKSIGINFO => tracee.peek_pending(cx, Address(addr), Address(data)),
        GETSIGMASK | SETSIGMASK => tracee.signal_mask(cx, request, addr, Address(data)),
        GET_SYSCALL_INFO => tracee.call_info(cx, addr, Address(data)),
        LISTEN => tracee.listen(cx),
        CONT => tracee.resume(cx, Resume::Continue, data),
        SYSCALL => tracee.resume(cx, Resume::Call, data),
        SINGLESTEP => tracee.resume(cx, Resume::Step, data),
        DETACH => {
            let signal = checked_signal(data)?;
            cx.kernel.end_trace(tid, signal);
            DONE
        }
        _ => Err(Errno::EIO),
    }
}

fn checked_options(options: u64) -> Result<u32> {
    let options = u32::try_from(options).map_err(|_| Errno::EINVAL)?;
    if options & !OPTIONS != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(options)
}

fn checked_signal(signal: u64) -> Result<i32> {
    let signal = i32::try_from(signal).map_err(|_| Errno::EIO)?;
    if signal > LAST {
        return Err(Errno::EIO);
    }
    Ok(signal)
}

/// By whom the caller was made, if that still is its parent; else by its parent's first thread.
fn trace_me(cx: &mut Cx<'_>) -> SysResult {
    let tid = cx.tid();
    if cx
        .kernel
        .traced(tid)
        .is_some_and(|own| own.tracer.is_some())
    {
        return Err(Errno::EPERM);
    }
    let process = cx.process()?;
    let (parent, creator) = (process.parent, process.creator);
    let own = cx.task()?.credentials.clone();
    let is_parent = |tid: &i32| cx.kernel.task(*tid).is_ok_and(|task| task.pid == parent);
    let tracer = match Some(creator).filter(is_parent) {
        Some(creator) => creator,
        None => {
            let parent = cx.kernel.process(parent).map_err(|_| Errno::EPERM)?;
            cx.kernel.leader(parent).ok_or(Errno::EPERM)?.host_tid
        }
    };
    // Linux: cap_ptrace_traceme().
    let theirs = &cx.kernel.task(tracer)?.credentials;
    if own.permitted & !theirs.permitted != 0 && !theirs.has(CAP_SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    cx.kernel
        .begin_trace(tid, Traced::by(tracer, &own, 0, false))?;
    DONE
}

fn seize(cx: &mut Cx<'_>, pid: i32, addr: u64, options: u64) -> SysResult {
    if addr != 0 {
        return Err(Errno::EIO);
    }
    let options = checked_options(options).map_err(|_| Errno::EIO)?;
    attach(cx, pid, options, true)
}

/// ptrace(2), "Ptrace access mode checking", with the real ids: PTRACE_MODE_ATTACH_REALCREDS. The host's Yama has no say here: nothing of this is the host's ptrace(2).
fn attach(cx: &mut Cx<'_>, pid: i32, options: u32, is_seized: bool) -> SysResult {
    let own = cx.task()?;
    let Some(tid) = cx.kernel.find_thread(pid) else {
        let is_zombie = cx.kernel.processes.contains_key(&pid);
        return Err(if is_zombie {
            Errno::EPERM
        } else {
            Errno::ESRCH
        });
    };
    let task = cx.kernel.task(tid)?;
    let ids = (own.credentials.uid, own.credentials.gid);
    let is_traced = task
        .traced
        .as_ref()
        .is_some_and(|traced| traced.tracer.is_some());
    if task.pid == own.pid || is_traced || !may_trace_as(cx.kernel, &own.credentials, ids, task) {
        return Err(Errno::EPERM);
    }
    let traced = Traced::by(cx.tid(), &own.credentials, options, is_seized);
    cx.kernel.begin_trace(tid, traced)?;
    if !is_seized {
        cx.kernel.send_to_thread(tid, Info::new(SIGSTOP, 0));
    }
    DONE
}

/// A stopped thread, natively.
#[derive(Clone, Copy)]
struct Tracee {
    tid: i32,
}

impl Tracee {
    fn traced<'k>(self, cx: &'k mut Cx<'_>) -> Result<&'k mut Traced> {
        cx.kernel.traced_mut(self.tid).ok_or(Errno::ESRCH)
    }

    fn frame(self, cx: &mut Cx<'_>) -> Result<Frame> {
        let context = self.traced(cx)?.frame();
        Frame::read(self.tid, context)
    }

    fn resume(self, cx: &mut Cx<'_>, how: Resume, signal: u64) -> SysResult {
        let signal = checked_signal(signal)?;
        cx.kernel.resume_tracee(self.tid, how, signal);
        DONE
    }

    fn peek(self, cx: &mut Cx<'_>, addr: u64, data: u64) -> SysResult {
        let mut bytes = [0; 8];
        if cx.kernel.memory_view(self.tid).shown(addr, bytes.len()) < bytes.len() {
            return Err(Errno::EIO);
        }
        let file = cx.kernel.memory_file(self.tid)?;
        if crate::host::pread(&file, &mut bytes, addr).ok() != Some(bytes.len()) {
            return Err(Errno::EIO);
        }
        cx.kernel.memory_view(self.tid).show_sites(addr, &mut bytes);
        cx.memory().write(Address(data), &bytes)?;
        DONE
    }

    fn poke(self, cx: &mut Cx<'_>, addr: u64, data: u64) -> SysResult {
        let bytes = data.to_le_bytes();
        if cx.kernel.memory_view(self.tid).shown(addr, bytes.len()) < bytes.len() {
            return Err(Errno::EIO);
        }
        let file = cx.kernel.memory_file(self.tid)?;
        cx.kernel.restore_sites(self.tid, addr, bytes.len() as u64);
        if crate::host::pwrite(&file, &bytes, addr) != Ok(bytes.len()) {
            return Err(Errno::EIO);
        }
        DONE
    }

    fn registers(self, cx: &mut Cx<'_>) -> Result<[u64; USER_REGISTERS]> {
        let frame = self.frame(cx)?;
        let traced = self.traced(cx)?;
        Ok(frame.user_registers(traced.original))
    }

    fn set_register(self, cx: &mut Cx<'_>, index: usize, value: u64) -> Result<()> {
        let mut frame = self.frame(cx)?;
        let traced = self.traced(cx)?;
        let is_base = frame.set_user_register(index, value, &mut traced.original)?;
        traced.new_bases |= is_base;
        Ok(())
    }

    fn peek_user(self, cx: &mut Cx<'_>, addr: u64, data: u64) -> SysResult {
        if !addr.is_multiple_of(8) || addr >= USER_LEN {
            return Err(Errno::EIO);
        }
        let value = match register_at(addr) {
            Some(index) => self.registers(cx)?[index],
            None => 0,
        };
        cx.memory().write_u64(Address(data), value)?;
        DONE
    }

    fn poke_user(self, cx: &mut Cx<'_>, addr: u64, data: u64) -> SysResult {
        match register_at(addr) {
            Some(index) => self.set_register(cx, index, data)?,
            None if addr.is_multiple_of(8) && DEBUG_REGISTERS.contains(&addr) && data == 0 => {}
            None => return Err(Errno::EIO),
        }
        DONE
    }

    fn read_registers(self, cx: &mut Cx<'_>, to: Address, len: usize) -> SysResult {
        let bytes: Vec<u8> = self
            .registers(cx)?
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        cx.memory().write(to, &bytes[..len])?;
        DONE
    }

    /// In their order, up to the first that cannot be set.
    fn write_registers(self, cx: &mut Cx<'_>, from: Address, len: usize) -> SysResult {
        let bytes = cx.memory().read_vec(from, len)?;
        for index in 0..len / 8 {
            self.set_register(cx, index, word(&bytes, 8 * index))?;
        }
        DONE
    }

    fn read_state(self, cx: &mut Cx<'_>, to: Address, len: usize) -> Result<usize> {
        let bytes = self.frame(cx)?.user_state()?;
        let len = len.min(bytes.len());
        cx.memory().write(to, &bytes[..len])?;
        Ok(len)
    }

    fn write_state(self, cx: &mut Cx<'_>, from: Address, len: usize) -> SysResult {
        let bytes = cx.memory().read_vec(from, len)?;
        self.frame(cx)?.set_state(&bytes)?;
        DONE
    }

    fn register_set(self, cx: &mut Cx<'_>, request: i32, kind: u64, vector: Address) -> SysResult {
        let header = cx.memory().read_vec(vector, 16)?;
        let (at, room) = (Address(word(&header, 0)), word(&header, 8));
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let (unit, most) = match kind {
            NT_PRSTATUS => (8, REGISTERS_LEN),
            NT_PRFPREG => (8, FLOATING_LEN),
            NT_X86_XSTATE => (8, self.frame(cx)?.state()?.len()),
            _ => return Err(Errno::EINVAL),
        };
        // Linux: ptrace_regset(): whole units, and no more than there is.
        if !room.is_multiple_of(unit) {
            return Err(Errno::EINVAL);
        }
        let len = room.min(most);
        match (request, kind) {
            (GETREGSET, NT_PRSTATUS) => self.read_registers(cx, at, len)?,
            (_, NT_PRSTATUS) => self.write_registers(cx, at, len)?,
            (GETREGSET, _) => self.read_state(cx, at, len).and(DONE)?,
            // Linux: xstateregs_set(), xfpregs_set(): all of it.
            _ if len != most => return Err(Errno::EFAULT),
            _ => self.write_state(cx, at, len)?,
        };
        cx.memory().write_u64(vector.offset(8), len as u64)?;
        DONE
    }

    fn arch_prctl(self, cx: &mut Cx<'_>, what: u64, addr: u64) -> SysResult {
        match what {
            ARCH_GET_FS | ARCH_GET_GS => {
                let index = if what == ARCH_GET_FS {
                    FS_BASE
                } else {
                    GS_BASE
                };
                let value = self.registers(cx)?[index];
                cx.memory().write_u64(Address(addr), value)?;
            }
            ARCH_SET_FS => self.set_base(cx, FS_BASE, addr)?,
            ARCH_SET_GS => self.set_base(cx, GS_BASE, addr)?,
            _ => return Err(Errno::EINVAL),
        }
        DONE
    }

    fn set_base(self, cx: &mut Cx<'_>, index: usize, value: u64) -> Result<()> {
        self.set_register(cx, index, value)
            .map_err(|_| Errno::EPERM)
    }

    fn set_siginfo(self, cx: &mut Cx<'_>, from: Address) -> SysResult {
        let mut bytes = [0; SIGINFO_LEN];
        cx.memory().read(from, &mut bytes)?;
        let info = Info::from_bytes(&bytes);
        let traced = self.traced(cx)?;
        let stop = traced.stop.as_mut().filter(|stop| stop.info.is_some());
        stop.ok_or(Errno::EINVAL)?.info = Some(info.clone());
        if traced.signal.is_some() {
            traced.signal = Some(info);
        }
        DONE
    }

    /// `struct ptrace_peeksiginfo_args`: which one first, whether those of the process, and how many.
    fn peek_pending(self, cx: &mut Cx<'_>, arguments: Address, to: Address) -> SysResult {
        const SHARED: u32 = 1;
        let bytes = cx.memory().read_vec(arguments, 16)?;
        let (first, flags, count) = (word(&bytes, 0), half(&bytes, 8), half(&bytes, 12) as i32);
        if flags & !SHARED != 0 || count < 0 {
            return Err(Errno::EINVAL);
        }
        let task = cx.kernel.task(self.tid)?;
        let pending = if flags & SHARED != 0 {
            &cx.kernel.process(task.pid)?.pending
        } else {
            &task.pending
        };
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let infos: Vec<[u8; SIGINFO_LEN]> = pending
            .queued()
            .skip(first)
            .take(count.min(MOST_PEEKED) as usize)
            .map(Info::to_bytes)
            .collect();
        cx.memory().write(to, infos.as_flattened())?;
        value(infos.len())
    }

    fn signal_mask(self, cx: &mut Cx<'_>, request: i32, size: u64, at: Address) -> SysResult {
        if size != 8 {
            return Err(Errno::EINVAL);
        }
        if request == GETSIGMASK {
            let task = cx.kernel.task(self.tid)?;
            let mask = task.saved_mask.unwrap_or(task.mask);
            cx.memory().write_u64(at, mask.0)?;
        } else {
            let mask = Set(cx.memory().read_u64(at)?).as_mask();
            let task = cx.kernel.task_mut(self.tid)?;
            task.saved_mask = None;
            task.mask = mask;
        }
        DONE
    }

    /// `struct ptrace_syscall_info`: as much as there is room for; the result is how much there would be.
    fn call_info(self, cx: &mut Cx<'_>, room: u64, to: Address) -> SysResult {
        const ENTRY: u8 = 1;
        const EXIT: u8 = 2;
        let frame = self.frame(cx)?;
        let registers = self.registers(cx)?;
        let traced = self.traced(cx)?;
        let stage = traced.stop.as_ref().map_or(0, call_stage);
        let original = traced.original;
        let mut bytes = vec![stage, 0, 0, 0];
        bytes.extend(ARCH_X86_64.to_le_bytes());
        // Instruction and stack pointer.
        bytes.extend(registers[16].to_le_bytes());
        bytes.extend(registers[19].to_le_bytes());
        match stage {
            ENTRY => {
                bytes.extend(original.to_le_bytes());
                for argument in frame.arguments() {
                    bytes.extend(argument.to_le_bytes());
                }
            }
            EXIT => {
                let result = registers[10].cast_signed();
                bytes.extend(result.to_le_bytes());
                bytes.push(u8::from((-4095..0).contains(&result)));
            }
            _ => {}
        }
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        cx.memory().write(to, &bytes[..len])?;
        value(bytes.len())
    }

    /// Linux: only in the stop of PTRACE_EVENT_STOP.
    fn listen(self, cx: &mut Cx<'_>) -> SysResult {
        const EVENT_STOP: i32 = crate::kernel::ptrace::EVENT_STOP;
        let traced = self.traced(cx)?;
        let is_event = traced
            .stop
            .as_ref()
            .is_some_and(|stop| stop.code >> 8 == EVENT_STOP);
        if !traced.is_seized || !is_event {
            return Err(Errno::EIO);
        }
        traced.is_listening = true;
        if std::mem::take(&mut traced.wants_stop) {
            cx.kernel.ask_to_stop(self.tid);
        }
        DONE
    }
}

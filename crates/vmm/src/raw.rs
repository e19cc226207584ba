//! The monitor's only unsafe code: memory slots of a virtual machine, file transfers straight into guest memory, tap interfaces, XSAVE, and
//! the calls about pages that no library has.
#![expect(unsafe_code, reason = "KVM maps our memory; the guest shares it")]

mod pages;
mod slots;
mod tap;
mod transfers;
mod window;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use kvm_bindings::{Xsave, kvm_run, kvm_userspace_memory_region, kvm_xsave};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, VolatileSlice};

use crate::Memory;
use crate::devices::lock;
pub(crate) use pages::{FaultFd, Pages, keep_pagemap, notes_writes, release_code, scan};
pub(crate) use tap::{HEADER as TAP_HEADER, Tap};
pub(crate) use transfers::Transfers;
pub(crate) use window::Window;

/// /dev/kvm by a descriptor of it; of anything else, the first request fails.
pub(crate) fn kvm(fd: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is ours alone, and is handed over. That it is KVM's is no matter of safety: requests on another file fail.
    unsafe { Kvm::from_raw_fd(fd.into_raw_fd()) }
}

/// A virtual machine and the memory KVM maps for it.
///
/// `vm` may not leave this type: the memory has to live as long as it. Virtual CPUs keep the machine alive too, so whoever runs
/// one holds an `Arc` of the memory (see `machine/vcpu.rs`).
#[derive(Debug)]
pub struct MappedVm {
    vm: VmFd,
    memory: Arc<Memory>,
    /// Files that the guest sees as memory.
    windows: Mutex<Vec<Arc<Window>>>,
    next_slot: AtomicU32,
}

impl MappedVm {
    /// Gives the first `nr_regions` regions of `memory` to `vm`, one slot each; the rest may follow while the machine runs.
    pub(crate) fn new(vm: VmFd, memory: Arc<Memory>, nr_regions: usize) -> io::Result<MappedVm> {
        for (slot, region) in memory.iter().take(nr_regions).enumerate() {
            let slot = u32::try_from(slot).map_err(io::Error::other)?;
            let address = region
                .get_host_address(vm_memory::MemoryRegionAddress(0))
                .map_err(io::Error::other)?;
            let description = kvm_userspace_memory_region {
                slot,
                guest_phys_addr: vm_memory::GuestMemoryRegion::start_addr(region).0,
                memory_size: region.len(),
                userspace_addr: address as u64,
                flags: 0,
            };
            // SAFETY: (1) address and length are one whole mapping owned by `memory`; (2) `memory` outlives `vm`, because both are
            // fields of this type and virtual CPUs hold an Arc of it; (3) slots and guest ranges do not overlap, as vm-memory sorted them.
            unsafe { vm.set_user_memory_region(description) }.map_err(io::Error::from)?;
        }
        Ok(MappedVm {
            vm,
            windows: Mutex::default(),
            next_slot: AtomicU32::new(u32::try_from(nr_regions).map_err(io::Error::other)?),
            memory,
        })
    }

    pub(crate) fn vm(&self) -> &VmFd {
        &self.vm
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

/// pread(2) into guest memory: no copy of ours, no reference to shared bytes. Returns how many were read.
pub(crate) fn read_at(file: &File, offset: u64, into: &VolatileSlice<'_, ()>) -> io::Result<usize> {
    let guard = into.ptr_guard_mut();
    // SAFETY: the guard keeps `into.len()` writable bytes mapped; the kernel is the one that writes, so a racing guest is no data race of ours.
    let done = unsafe {
        libc::pread64(
            file.as_raw_fd(),
            guard.as_ptr().cast(),
            into.len(),
            signed(offset)?,
        )
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// pwrite(2) from guest memory. Returns how many bytes were written.
pub(crate) fn write_at(
    file: &File,
    offset: u64,
    from: &VolatileSlice<'_, ()>,
) -> io::Result<usize> {
    let guard = from.ptr_guard();
    // SAFETY: the guard keeps `from.len()` readable bytes mapped; the kernel is the one that reads.
    let done = unsafe {
        libc::pwrite64(
            file.as_raw_fd(),
            guard.as_ptr().cast(),
            from.len(),
            signed(offset)?,
        )
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Fills guest memory from the host's generator. Returns how many bytes it gave.
pub(crate) fn fill_random(into: &VolatileSlice<'_, ()>) -> io::Result<usize> {
    let guard = into.ptr_guard_mut();
    // SAFETY: as in `read_at`.
    let done = unsafe { libc::getrandom(guard.as_ptr().cast(), into.len(), 0) };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Gives the pages behind `pages` back to the host. The guest reads there what the mapping started with: zeroes, or the snapshot's file.
pub(crate) fn discard(pages: &VolatileSlice<'_, ()>) -> io::Result<()> {
    let guard = pages.ptr_guard_mut();
    // SAFETY: the range lies in one private mapping of guest memory, of which no Rust reference exists.
    let result = unsafe { libc::madvise(guard.as_ptr().cast(), pages.len(), libc::MADV_DONTNEED) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// A CPU's XSAVE area of `size` bytes (KVM_CAP_XSAVE2).
pub(crate) fn xsave(cpu: &VcpuFd, size: usize) -> Result<Vec<u8>, kvm_ioctls::Error> {
    let mut area = xsave_area(size)?;
    // SAFETY: the area has the size that KVM_CAP_XSAVE2 named for this machine, and nothing here enables further features (arch_prctl).
    unsafe { cpu.get_xsave2(&mut area)? };
    let words = area.as_fam_struct_ref().xsave.region.iter();
    let words = words.chain(area.as_slice());
    Ok(words.flat_map(|word| word.to_ne_bytes()).collect())
}

/// Gives a CPU the XSAVE area that `xsave` took. `bytes` may be shorter than `size`; the rest is zero, which is "not in use".
pub(crate) fn set_xsave(cpu: &VcpuFd, bytes: &[u8], size: usize) -> Result<(), kvm_ioctls::Error> {
    let mut area = xsave_area(size)?;
    let words: Vec<u32> = bytes
        .chunks_exact(4)
        .filter_map(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    let (head, tail) = words.split_at(words.len().min(size_of::<kvm_xsave>() / 4));
    let put =
        |to: &mut [u32], from: &[u32]| to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    put(area.as_mut_slice(), tail);
    // SAFETY: only the fixed part is written; the length of the flexible array stays.
    put(unsafe { &mut area.as_mut_fam_struct().xsave.region }, head);
    // SAFETY: the area is as long as KVM expects, as in `xsave`.
    unsafe { cpu.set_xsave2(&area) }
}

fn xsave_area(size: usize) -> Result<Xsave, kvm_ioctls::Error> {
    let extra = size.saturating_sub(size_of::<kvm_xsave>()).div_ceil(4);
    Xsave::new(extra).map_err(|_| kvm_ioctls::Error::new(libc::ENOMEM))
}

/// Keeps a CPU's shared page out of forked children: it would hold the parent's machine in memory for as long as they live.
pub(crate) fn keep_out_of_children(cpu: &mut VcpuFd, size: usize) -> io::Result<()> {
    let page: *mut kvm_run = cpu.get_kvm_run();
    // SAFETY: `size` is the length of the mapping that kvm-ioctls made (KVM_GET_VCPU_MMAP_SIZE). The advice changes nothing in this process.
    check(unsafe { libc::madvise(page.cast(), size, libc::MADV_DONTFORK) })
}

/// The bytes of the instruction that KVM could not emulate, after an exit for that reason; none where KVM does not say.
pub(crate) fn failed_instruction(cpu: &mut VcpuFd) -> Vec<u8> {
    const EMULATION: u32 = 1; // KVM_INTERNAL_ERROR_EMULATION
    const HAS_BYTES: u64 = 1; // KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    // SAFETY: the exit says which part of the union KVM has filled, and its caller has just seen that; all bit patterns are legal there.
    let failure = unsafe { cpu.get_kvm_run().__bindgen_anon_1.emulation_failure };
    if failure.suberror != EMULATION || failure.ndata < 3 {
        return Vec::new();
    }
    // SAFETY: plain bytes, of which all patterns are legal.
    let code = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
    let length = usize::from(code.insn_size).min(code.insn_bytes.len());
    if failure.flags & HAS_BYTES == 0 {
        return Vec::new();
    }
    code.insn_bytes[..length].to_vec()
}

/// fork(2): the child's number, or nothing in the child.
///
/// Callers have paused the virtual CPUs.
pub(crate) fn fork() -> io::Result<Option<u32>> {
    // glibc's fork(3) does as much for its own.
    #[cfg(target_env = "musl")]
    let _held = casemate_host::allocator::hold();
    // SAFETY: the child has only this thread. The others were virtual CPUs, which their caller parked at the gate, where they hold no
    // lock of ours, and nobody holds the allocator's. The child uses no object of theirs again.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    Ok(u32::try_from(pid).ok().filter(|pid| *pid > 0))
}

/// Has the kernel forget children that end.
pub(crate) fn ignore_ended_children() -> io::Result<()> {
    // SAFETY: SIG_IGN is a legal disposition; nothing here waits for children.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What the monitor exits with after a call that its filter refuses; Firecracker's `BadSyscall`.
const REFUSED_CALL: libc::c_int = 148;

/// Has a refused call told, and the monitor ended by it.
pub(crate) fn name_refused_calls() -> io::Result<()> {
    vmm_sys_util::signal::register_signal_handler(libc::SIGSYS, on_refused).map_err(io::Error::from)
}

/// Writes the call's number and second argument, which is what an ioctl asks for.
extern "C" fn on_refused(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes the interrupted thread's context, which lives until the handler returns.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let (number, second) = (
        registers[libc::REG_RAX as usize],
        registers[libc::REG_RSI as usize],
    );
    // On the stack: a signal may interrupt the allocator (signal-safety(7)).
    let mut message = [0_u8; 128];
    let mut rest = message.as_mut_slice();
    let text = format_args!(
        "casemate-engine vmm: the seccomp filter refused system call {number}, second argument {second:#x}\n"
    );
    let _ = rest.write_fmt(text);
    let length = 128 - rest.len();
    // SAFETY: writes `length` bytes of the message, which lives on this stack; `_exit` does not come back.
    unsafe {
        libc::write(2, message.as_ptr().cast(), length);
        libc::_exit(REFUSED_CALL)
    }
}

fn check(result: impl Into<libc::c_long>) -> io::Result<()> {
    if result.into() < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

//! Scheduling: sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2).

use std::io;

use crate::check_long;

/// `struct sched_attr` (include/uapi/linux/sched/types.h), version with utilisation clamps: 56 bytes.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

const _: () = assert!(size_of::<SchedAttr>() == 56);

/// # Errors
/// As sched_setattr(2).
pub fn set_scheduler(mut attributes: SchedAttr) -> io::Result<()> {
    attributes.size = 56;
    // SAFETY: the struct is repr(C) and holds its own size.
    check_long(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
        .map(drop)
}

/// `class` 1 realtime, 2 best effort, 3 idle; `priority` 0 to 7.
///
/// # Errors
/// As ioprio_set(2).
pub fn set_io_priority(class: i32, priority: i32) -> io::Result<()> {
    // SAFETY: no memory is passed. IOPRIO_WHO_PROCESS is 1.
    check_long(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, class << 13 | priority) })
        .map(drop)
}

/// # Errors
/// As sched_setaffinity(2); `EINVAL` for a CPU above 8191.
pub fn set_affinity(cpus: &[u32]) -> io::Result<()> {
    let mask = bits(cpus, 8192)?;
    // SAFETY: pointer and size in bytes belong together.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            mask.len() * 8,
            mask.as_ptr(),
        )
    })
    .map(drop)
}

/// # Errors
/// As set_mempolicy(2); `EINVAL` for a node above 1023.
pub fn set_memory_policy(mode: i32, flags: i32, nodes: &[u32]) -> io::Result<()> {
    let mask = bits(nodes, 1024)?;
    // SAFETY: the mask has 1024 bits, and maxnode says so.
    check_long(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode | flags, mask.as_ptr(), 1025) })
        .map(drop)
}

fn bits(numbers: &[u32], most: usize) -> io::Result<Vec<u64>> {
    let mut mask = vec![0u64; most / 64];
    for &number in numbers {
        let word = mask
            .get_mut(number as usize / 64)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        *word |= 1 << (number % 64);
    }
    Ok(mask)
}

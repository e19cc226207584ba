//! User and group ids, capabilities, prctl(2) bits that belong to them.
//!
//! Raw calls: glibc's setuid family signals all threads to follow, which needs state that a freshly cloned child need not have.

use std::io;

use crate::check_long;

/// # Errors
/// As setresuid(2).
pub fn setresuid(uid: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check_long(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// # Errors
/// As setresgid(2).
pub fn setresgid(gid: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check_long(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// # Errors
/// As setgroups(2).
pub fn setgroups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer is valid for `groups.len()` ids.
    check_long(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
        .map(drop)
}

/// The three capability sets of this thread, as bit masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two data words, 64 bits.
const CAP_VERSION: u32 = 0x2008_0522;

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of a 64-bit mask"
)]
fn halves(mask: u64) -> [u32; 2] {
    [mask as u32, (mask >> 32) as u32]
}

/// # Errors
/// As capset(2).
pub fn capset(sets: CapabilitySets) -> io::Result<()> {
    let header = CapHeader {
        version: CAP_VERSION,
        pid: 0,
    };
    let (effective, permitted, inheritable) = (
        halves(sets.effective),
        halves(sets.permitted),
        halves(sets.inheritable),
    );
    let data: [CapData; 2] = std::array::from_fn(|i| CapData {
        effective: effective[i],
        permitted: permitted[i],
        inheritable: inheritable[i],
    });
    // SAFETY: version 3 reads two CapData; both structs are repr(C) as the kernel's.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
        .map(drop)
}

/// # Errors
/// As capget(2).
pub fn capget() -> io::Result<CapabilitySets> {
    let header = CapHeader {
        version: CAP_VERSION,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 writes two CapData.
    check_long(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapabilitySets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

fn prctl(option: i32, a: u64, b: u64) -> io::Result<i32> {
    // SAFETY: only options without pointers are passed by this module's functions.
    crate::check(unsafe { libc::prctl(option, a, b, 0u64, 0u64) })
}

/// Whether capability `number` is in the bounding set; `EINVAL` beyond the kernel's last one.
///
/// # Errors
/// As prctl(2) `PR_CAPBSET_READ`.
pub fn bounding_has(number: u32) -> io::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(number), 0).map(|has| has == 1)
}

/// # Errors
/// As prctl(2) `PR_CAPBSET_DROP`.
pub fn bounding_drop(number: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0).map(drop)
}

/// # Errors
/// As prctl(2) `PR_SET_KEEPCAPS`.
pub fn set_keep_capabilities(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0).map(drop)
}

/// # Errors
/// As prctl(2) `PR_CAP_AMBIENT_RAISE`.
pub fn ambient_raise(number: u32) -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        u64::from(number),
    )
    .map(drop)
}

/// # Errors
/// As prctl(2) `PR_CAP_AMBIENT_CLEAR_ALL`.
pub fn ambient_clear() -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )
    .map(drop)
}

/// # Errors
/// As prctl(2) `PR_SET_NO_NEW_PRIVS`.
pub fn set_no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// # Errors
/// As prctl(2) `PR_SET_DUMPABLE`.
pub fn set_dumpable(value: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(value), 0).map(drop)
}

/// # Errors
/// As prctl(2) `PR_SET_PDEATHSIG`.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, u64::from(signal.unsigned_abs()), 0).map(drop)
}

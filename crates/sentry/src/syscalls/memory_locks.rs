//! Memory that stays, memory of nodes, and barriers: mlock(2), mbind(2), membarrier(2). The address space is the host's, so most is, too.

use super::arguments::Flags;
use super::{Cx, Outcome, SysResult};
use crate::errno::Errno;
use crate::memory::Address;

pub fn mincore(_cx: &mut Cx<'_>, _addr: Address, _len: u64, _vec: Address) -> SysResult {
    Ok(Outcome::Native)
}

pub fn mlock(_cx: &mut Cx<'_>, _addr: Address, _len: u64) -> SysResult {
    Ok(Outcome::Native)
}

pub fn munlock(_cx: &mut Cx<'_>, _addr: Address, _len: u64) -> SysResult {
    Ok(Outcome::Native)
}

pub fn mlockall(_cx: &mut Cx<'_>, flags: Flags) -> SysResult {
    // MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT.
    flags.only(7)?;
    Ok(Outcome::Native)
}

pub fn munlockall(_cx: &mut Cx<'_>) -> SysResult {
    Ok(Outcome::Native)
}

pub fn mlock2(_cx: &mut Cx<'_>, _addr: Address, _len: u64, flags: Flags) -> SysResult {
    flags.only(1)?;
    Ok(Outcome::Native)
}

/// The commands up to registering and asking for registrations: all make the caller's own threads see each other's writes.
pub fn membarrier(_cx: &mut Cx<'_>, command: i32, flags: Flags, _cpu: i32) -> SysResult {
    const LAST: i32 = 1 << 9;
    flags.only(1)?;
    let is_known = command == 0 || (command > 0 && command <= LAST && command & (command - 1) == 0);
    if is_known {
        Ok(Outcome::Native)
    } else {
        Err(Errno::EINVAL)
    }
}

//! Memory that stays, memory of nodes, and barriers: mlock(2), mbind(2), membarrier(2). The address space is the host's, so most is, too.

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult};
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

/// Nodes are not a sandbox's to choose: refused, as containers do without CAP_SYS_NICE.
pub fn mbind(
    _cx: &mut Cx<'_>,
    _addr: Address,
    _len: u64,
    _mode: i32,
    _nodes: Address,
    _most: u64,
    _flags: Flags,
) -> SysResult {
    Err(Errno::EPERM)
}

pub fn set_mempolicy(_cx: &mut Cx<'_>, _mode: i32, _nodes: Address, _most: u64) -> SysResult {
    Err(Errno::EPERM)
}

/// The default policy, on the one node that there is.
pub fn get_mempolicy(
    cx: &mut Cx<'_>,
    mode: Address,
    nodes: Address,
    most: u64,
    addr: Address,
    flags: Flags,
) -> SysResult {
    const MEMS_ALLOWED: i32 = 4;
    flags.only(7)?;
    let wants_allowed = flags.has(MEMS_ALLOWED);
    if wants_allowed && flags.0 != MEMS_ALLOWED.cast_unsigned() {
        return Err(Errno::EINVAL);
    }
    if flags.0 & 3 != 0 {
        return Err(Errno::EPERM);
    }
    if !addr.is_null() {
        return Err(Errno::EINVAL);
    }
    if !mode.is_null() {
        cx.memory().write_i32(mode, 0)?;
    }
    if !nodes.is_null() {
        // `most` counts one more bit than it says; a page of them is the most that Linux takes.
        if most == 0 || most > 8 * 4096 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0_u8; (most as usize).div_ceil(64) * 8];
        if wants_allowed {
            bytes[0] = 1;
        }
        cx.memory().write(nodes, &bytes)?;
    }
    DONE
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

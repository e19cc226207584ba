//! NUMA policies. The sandbox has one node, 0: policies are checked as Linux does and kept for who asks, and change nothing. set_mempolicy(2), mbind(2).

use super::arguments::Flags;
use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::memory::Address;

const DEFAULT: i32 = 0;
const PREFERRED: i32 = 1;
const INTERLEAVE: i32 = 3;
const LOCAL: i32 = 4;
const PREFERRED_MANY: i32 = 5;
const STATIC_NODES: i32 = 0x8000;
const RELATIVE_NODES: i32 = 0x4000;
const MODE_FLAGS: i32 = STATIC_NODES | RELATIVE_NODES | 0x2000;
/// Bits of a set of nodes, at most: a page of them.
const MOST_NODES: u64 = 8 * 4096;
const CAP_SYS_NICE: u32 = 23;

/// A thread's policy: the mode with its flags, and whether it names the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    mode: i32,
    names_node: bool,
}

/// Whether the set names node 0. `EINVAL` it names another, or is too long. `most` counts one more bit than it says: get_nodes().
fn read_nodes(cx: &Cx<'_>, nodes: Address, most: u64) -> Result<bool> {
    let bits = most.wrapping_sub(1);
    if bits == 0 || most == 0 || nodes.is_null() {
        return Ok(false);
    }
    if bits > MOST_NODES {
        return Err(Errno::EINVAL);
    }
    let bytes = cx
        .memory()
        .read_vec(nodes, (bits as usize).div_ceil(64) * 8)?;
    let mut named = (0..bits as usize).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1);
    match (named.next(), named.next()) {
        (None, _) => Ok(false),
        (Some(0), None) => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// Linux: sanitize_mpol_flags(), mpol_new().
fn check(cx: &Cx<'_>, mode: i32, nodes: Address, most: u64) -> Result<Policy> {
    let flags = mode & MODE_FLAGS;
    let plain = mode & !MODE_FLAGS;
    let is_both = flags & STATIC_NODES != 0 && flags & RELATIVE_NODES != 0;
    if !(DEFAULT..=PREFERRED_MANY).contains(&plain) || is_both {
        return Err(Errno::EINVAL);
    }
    let names_node = read_nodes(cx, nodes, most)?;
    match plain {
        DEFAULT | LOCAL if names_node => Err(Errno::EINVAL),
        PREFERRED if !names_node && flags & (STATIC_NODES | RELATIVE_NODES) != 0 => {
            Err(Errno::EINVAL)
        }
        PREFERRED if !names_node => Ok(Policy {
            mode: LOCAL,
            names_node,
        }),
        DEFAULT | LOCAL | PREFERRED => Ok(Policy { mode, names_node }),
        _ if !names_node => Err(Errno::EINVAL),
        _ => Ok(Policy { mode, names_node }),
    }
}

pub fn set_mempolicy(cx: &mut Cx<'_>, mode: i32, nodes: Address, most: u64) -> SysResult {
    let policy = check(cx, mode, nodes, most)?;
    cx.task_mut()?.settings.memory_policy = policy;
    DONE
}

pub fn mbind(
    cx: &mut Cx<'_>,
    addr: Address,
    len: u64,
    mode: i32,
    nodes: Address,
    most: u64,
    flags: Flags,
) -> SysResult {
    const MOVE_ALL: i32 = 4;
    const PAGE: u64 = 4096;
    flags.only(7)?;
    if flags.has(MOVE_ALL) && !cx.task()?.credentials.has(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let end = len
        .checked_next_multiple_of(PAGE)
        .and_then(|len| addr.0.checked_add(len));
    if !addr.0.is_multiple_of(PAGE) || end.is_none() {
        return Err(Errno::EINVAL);
    }
    check(cx, mode, nodes, most)?;
    if len > 0 {
        cx.memory().read_vec(addr, 1)?;
    }
    DONE
}

pub fn get_mempolicy(
    cx: &mut Cx<'_>,
    mode: Address,
    nodes: Address,
    most: u64,
    addr: Address,
    flags: Flags,
) -> SysResult {
    const NODE: i32 = 1;
    const ADDR: i32 = 2;
    const MEMS_ALLOWED: i32 = 4;
    flags.only(NODE | ADDR | MEMS_ALLOWED)?;
    let wants_allowed = flags.has(MEMS_ALLOWED);
    if wants_allowed && flags.0 != MEMS_ALLOWED.cast_unsigned() {
        return Err(Errno::EINVAL);
    }
    if !nodes.is_null() && !(1..=MOST_NODES).contains(&most) {
        return Err(Errno::EINVAL);
    }
    let own = cx.task()?.settings.memory_policy;
    let policy = if flags.has(ADDR) {
        // Memory's own policy, of which there is none.
        cx.memory().read_vec(addr, 1)?;
        Policy::default()
    } else if !addr.is_null() {
        return Err(Errno::EINVAL);
    } else {
        own
    };
    let told = match (flags.has(NODE), flags.has(ADDR)) {
        _ if wants_allowed => None,
        (true, true) => Some(0),
        (true, false) if own.mode & !MODE_FLAGS == INTERLEAVE => Some(0),
        (true, false) => return Err(Errno::EINVAL),
        _ => Some(policy.mode),
    };
    if let Some(told) = told.or(wants_allowed.then_some(0))
        && !mode.is_null()
    {
        cx.memory().write_i32(mode, told)?;
    }
    if !nodes.is_null() {
        let mut bytes = vec![0_u8; (most as usize).div_ceil(64) * 8];
        bytes[0] = u8::from(wants_allowed || policy.names_node);
        cx.memory().write(nodes, &bytes)?;
    }
    DONE
}

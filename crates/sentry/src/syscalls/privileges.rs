//! Capabilities, and prctl(2)'s options about them.

use super::credentials::commit;
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{ALL_CAPABILITIES, CAP_SETPCAP, Credentials};
use crate::kernel::identity::{
    SECBIT_KEEP_CAPS, SECBIT_KEEP_CAPS_LOCKED, SECBIT_NO_CAP_AMBIENT_RAISE, SECBITS,
};
use crate::memory::{Address, half};

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;
/// CAP_CHECKPOINT_RESTORE.
const LAST_CAPABILITY: u64 = 40;

/// Words of each set in the caller's version of the structure, and the pid it asks about. An unknown version is answered with ours.
fn read_header(cx: &Cx<'_>, header: Address, is_probe: bool) -> Result<Option<(usize, i32)>> {
    let bytes = cx.memory().read_u64(header)?.to_le_bytes();
    let words = match half(&bytes, 0) {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            cx.memory().write_u32(header, VERSION_3)?;
            return if is_probe {
                Ok(None)
            } else {
                Err(Errno::EINVAL)
            };
        }
    };
    Ok(Some((words, half(&bytes, 4).cast_signed())))
}

pub fn capget(cx: &mut Cx<'_>, header: Address, data: Address) -> SysResult {
    let Some((words, pid)) = read_header(cx, header, data.is_null())? else {
        return DONE;
    };
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let who = if pid == 0 {
        cx.task()?.credentials.clone()
    } else {
        let tid = *cx.kernel.tids.get(&pid).ok_or(Errno::ESRCH)?;
        cx.kernel.task(tid)?.credentials.clone()
    };
    if data.is_null() {
        return DONE;
    }
    let mut bytes = Vec::with_capacity(24);
    for word in 0..words {
        for set in [who.effective, who.permitted, who.inheritable] {
            bytes.extend(((set >> (32 * word)) as u32).to_le_bytes());
        }
    }
    cx.memory().write(data, &bytes)?;
    DONE
}

/// Linux: cap_capset().
pub fn capset(cx: &mut Cx<'_>, header: Address, data: Address) -> SysResult {
    let (words, pid) = read_header(cx, header, false)?.ok_or(Errno::EINVAL)?;
    if pid != 0 && pid != cx.task()?.tid {
        return Err(Errno::EPERM);
    }
    let bytes = cx.memory().read_vec(data, 12 * words)?;
    let set = |which: usize| {
        let low = u64::from(half(&bytes, 4 * which));
        let high = if words == 2 {
            u64::from(half(&bytes, 12 + 4 * which))
        } else {
            0
        };
        (low | high << 32) & ALL_CAPABILITIES
    };
    let (effective, permitted, inheritable) = (set(0), set(1), set(2));
    let mut new = (*cx.task()?.credentials).clone();
    let within = |set: u64, bound: u64| set & !bound == 0;
    let may_inherit = new.has(CAP_SETPCAP) || within(inheritable, new.inheritable | new.permitted);
    if !may_inherit
        || !within(inheritable, new.inheritable | new.bounding)
        || !within(permitted, new.permitted)
        || !within(effective, permitted)
    {
        return Err(Errno::EPERM);
    }
    (new.effective, new.permitted, new.inheritable) = (effective, permitted, inheritable);
    new.ambient &= permitted & inheritable;
    commit(cx, new)?;
    DONE
}

/// What of prctl(2) is about privileges.
pub fn prctl(cx: &mut Cx<'_>, option: i32, a: u64, b: u64, c: u64, d: u64) -> SysResult {
    let mut new = (*cx.task()?.credentials).clone();
    match option {
        libc::PR_SET_KEEPCAPS => {
            if a > 1 {
                return Err(Errno::EINVAL);
            }
            if new.securebits & SECBIT_KEEP_CAPS_LOCKED != 0 {
                return Err(Errno::EPERM);
            }
            new.keep_capabilities = a == 1;
        }
        libc::PR_GET_KEEPCAPS => return value(i32::from(new.keep_capabilities)),
        libc::PR_GET_SECUREBITS => return value(securebits(&new)),
        libc::PR_SET_SECUREBITS => set_securebits(&mut new, a)?,
        libc::PR_CAPBSET_DROP => {
            if !new.has(CAP_SETPCAP) {
                return Err(Errno::EPERM);
            }
            if a > LAST_CAPABILITY {
                return Err(Errno::EINVAL);
            }
            new.bounding &= !(1 << a);
        }
        libc::PR_CAP_AMBIENT => return ambient(cx, new, [a, b, c, d]),
        libc::PR_GET_SECCOMP => return value(if new.filters.is_some() { 2 } else { 0 }),
        libc::PR_SET_SECCOMP => {
            // Strict mode has no argument.
            let (operation, argument) = match a {
                1 => (0, 0),
                2 => (1, b),
                _ => return Err(Errno::EINVAL),
            };
            return super::sandboxed::seccomp(cx, operation, 0, Address(argument));
        }
        _ => return super::prctl::other(cx, option, [a, b, c, d]),
    }
    commit(cx, new)?;
    DONE
}

fn securebits(who: &Credentials) -> u32 {
    who.securebits
        | if who.keep_capabilities {
            SECBIT_KEEP_CAPS
        } else {
            0
        }
}

/// Linux: cap_task_prctl(). A locked bit, and a lock, stay.
fn set_securebits(who: &mut Credentials, wanted: u64) -> Result<()> {
    const LOCKS: u32 = 0xAA;
    let old = securebits(who);
    let unknown = wanted & !u64::from(SECBITS) != 0;
    let wanted = wanted as u32;
    let locked = (old & LOCKS) >> 1;
    if unknown
        || locked & (old ^ wanted) != 0
        || old & LOCKS & !wanted != 0
        || !who.has(CAP_SETPCAP)
    {
        return Err(Errno::EPERM);
    }
    who.securebits = wanted & !SECBIT_KEEP_CAPS;
    who.keep_capabilities = wanted & SECBIT_KEEP_CAPS != 0;
    Ok(())
}

fn ambient(cx: &mut Cx<'_>, mut who: Credentials, [what, which, c, d]: [u64; 4]) -> SysResult {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if c != 0 || d != 0 {
        return Err(Errno::EINVAL);
    }
    if what == CLEAR_ALL {
        if which != 0 {
            return Err(Errno::EINVAL);
        }
        who.ambient = 0;
        commit(cx, who)?;
        return DONE;
    }
    if which > LAST_CAPABILITY {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << which;
    match what {
        IS_SET => return value(i32::from(who.ambient & bit != 0)),
        RAISE => {
            let may = who.permitted & who.inheritable & bit != 0;
            if !may || who.securebits & SECBIT_NO_CAP_AMBIENT_RAISE != 0 {
                return Err(Errno::EPERM);
            }
            who.ambient |= bit;
        }
        LOWER => who.ambient &= !bit,
        _ => return Err(Errno::EINVAL),
    }
    commit(cx, who)?;
    DONE
}

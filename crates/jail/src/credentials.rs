//! Ids and capabilities, in the only order that works: the bounding set while CAP_SETPCAP is there, ids with the capabilities kept, then the sets.

use casemate_host::ids::{self, CapabilitySets};
use casemate_plan::op::{Capabilities, Credentials};
use rustix::fs::Mode;

use crate::{Error, call, capabilities::mask};

/// Becomes the user with the capabilities, and verifies the result.
///
/// # Errors
/// [`Error::Call`] with the call that failed; [`Error::UnknownCapability`].
pub fn apply(credentials: &Credentials) -> Result<(), Error> {
    let none = Capabilities::default();
    let wanted = credentials.capabilities.as_ref().unwrap_or(&none);
    let bounding = mask(&wanted.bounding)?;
    let held = ids::capget().map_err(call("capget"))?;
    // A process of a user that holds fewer than asked gets what there is, as in runc: the kernel refuses the rest.
    let sets = CapabilitySets {
        permitted: mask(&wanted.permitted)? & held.permitted,
        effective: mask(&wanted.effective)? & held.permitted,
        inheritable: mask(&wanted.inheritable)? & (held.permitted | held.inheritable),
    };
    let ambient = mask(&wanted.ambient)? & sets.permitted & sets.inheritable;
    drop_bounding(bounding)?;
    ids::set_keep_capabilities(true).map_err(call("PR_SET_KEEPCAPS"))?;
    change_ids(credentials)?;
    ids::set_keep_capabilities(false).map_err(call("PR_SET_KEEPCAPS"))?;
    ids::ambient_clear().map_err(call("PR_CAP_AMBIENT_CLEAR_ALL"))?;
    ids::capset(sets).map_err(call("capset"))?;
    raise_ambient(ambient)?;
    verify(sets)
}

fn drop_bounding(keep: u64) -> Result<(), Error> {
    for number in 0..64 {
        match ids::bounding_has(number) {
            Ok(true) if keep & 1 << number == 0 => {
                ids::bounding_drop(number).map_err(call("PR_CAPBSET_DROP"))?
            }
            Ok(_) => {}
            Err(_) => break, // beyond the kernel's last capability
        }
    }
    Ok(())
}

fn change_ids(credentials: &Credentials) -> Result<(), Error> {
    if let Some(groups) = &credentials.groups {
        match ids::setgroups(groups) {
            // Denied in a user namespace mapped without privilege; no group of ours is in force there either.
            Err(error) if groups.is_empty() && error.raw_os_error() == Some(libc_eperm()) => {}
            other => other.map_err(call("setgroups"))?,
        }
    }
    ids::setresgid(credentials.gid).map_err(call("setresgid"))?;
    ids::setresuid(credentials.uid).map_err(call("setresuid"))?;
    if let Some(umask) = credentials.umask {
        rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
    }
    Ok(())
}

fn libc_eperm() -> i32 {
    rustix::io::Errno::PERM.raw_os_error()
}

fn raise_ambient(set: u64) -> Result<(), Error> {
    for number in (0..64).filter(|number| set & 1 << number != 0) {
        ids::ambient_raise(number).map_err(call("PR_CAP_AMBIENT_RAISE"))?;
    }
    Ok(())
}

/// What the kernel says now is what was meant; anything else would be a hole nobody sees.
fn verify(meant: CapabilitySets) -> Result<(), Error> {
    let found = ids::capget().map_err(call("capget"))?;
    if found == meant {
        Ok(())
    } else {
        Err(Error::Profile(format!(
            "capabilities are {found:x?} after setting {meant:x?}"
        )))
    }
}

//! Who the process is and what it may do: ids, capabilities, labels, seccomp, landlock.

use std::os::fd::AsFd;

use casemate_host::ids;
use casemate_plan::op::{Credentials, Landlock};
use rustix::io::Errno;

use crate::channel::Event;
use crate::child::State;
use crate::error::{Context, Error, Result};

pub(super) fn become_root() -> Result<()> {
    match ids::setgroups(&[]) {
        Err(error) if error.raw_os_error() != Some(Errno::PERM.raw_os_error()) => {
            return Err(Error::io("setgroups", &error));
        }
        _ => {} // refused where the map was written without privilege ("deny")
    }
    ids::setresgid(0).context(|| "setresgid 0".into())?;
    ids::setresuid(0).context(|| "setresuid 0".into())
}

pub(super) fn dumpable(value: bool) -> Result<()> {
    ids::set_dumpable(value).context(|| "PR_SET_DUMPABLE".into())
}

pub(super) fn parent_death_signal(signal: i32) -> Result<()> {
    ids::set_parent_death_signal(signal).context(|| "PR_SET_PDEATHSIG".into())
}

pub(super) fn no_new_privs() -> Result<()> {
    casemate_jail::no_new_privs().map_err(|error| Error::plain(error.to_string()))
}

pub(super) fn landlock(landlock: &Landlock) -> Result<()> {
    casemate_jail::landlock::apply(landlock).map_err(|error| Error::plain(error.to_string()))
}

pub(super) fn credentials(credentials: &Credentials) -> Result<()> {
    casemate_jail::credentials::apply(credentials)
        .map_err(|error| Error::plain(error.to_string()))?;
    // A change of ids makes the process dumpable or not by the kernel's own rule; until exec it must not be.
    ids::set_dumpable(false).context(|| "PR_SET_DUMPABLE".into())
}

pub(super) fn seccomp(wanted: bool, listener: bool, log: bool, state: &mut State) -> Result<()> {
    if !wanted {
        return Ok(());
    }
    let filter = state
        .filters
        .pop_front()
        .ok_or_else(|| Error::plain("no compiled filter"))?;
    let notify = filter
        .install(listener, log)
        .map_err(|error| Error::plain(error.to_string()))?;
    match notify {
        Some(fd) => state
            .channel
            .stop(&Event::SeccompListener, Some(fd.as_fd())),
        None => Ok(()),
    }
}

/// Writes an LSM's label for the next exec: the newer per-module file, else the shared one.
pub(super) fn security_label(first: &str, second: &str, text: &str) -> Result<()> {
    let write =
        |file: &str| super::system::write_proc(&format!("/proc/thread-self/attr/{file}"), text);
    write(first)
        .or_else(|_| write(second))
        .context(|| format!("security label {text:?}"))
}

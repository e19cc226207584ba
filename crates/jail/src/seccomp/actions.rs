//! Actions and flags by their OCI names.

use casemate_host::seccomp::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV};

use crate::Error;

pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const DATA: u32 = 0xffff;

/// SECCOMP_RET_* of an action; `errno` goes with ERRNO and TRACE.
pub(super) fn action(name: &str, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM) & DATA;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        other => return Err(Error::Profile(format!("unknown action {other:?}"))),
    })
}

/// SECCOMP_FILTER_FLAG_* of the profile's flags.
pub(super) fn flags(names: &[String]) -> Result<u64, Error> {
    names.iter().try_fold(0, |all, name| {
        Ok(all
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => FLAG_WAIT_KILLABLE_RECV,
                other => return Err(Error::Profile(format!("unknown flag {other:?}"))),
            })
    })
}

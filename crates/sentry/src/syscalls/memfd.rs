//! Files in memory alone. memfd_create(2): the host's, so that they can be mapped, sealed and executed as there.

use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};

use super::arguments::Flags;
use super::{Cx, DONE, SysResult, value};
use crate::errno::Errno;
use crate::memory::Address;
use crate::vfs::description::Description;
use crate::vfs::host::HostFile;

/// With "memfd:" before it, a file name. Linux: MFD_NAME_MAX_LEN.
const NAME_MAX: usize = 249;
/// What the kernel means by it; to the C library it is 0.
const O_LARGEFILE: u32 = 0x8000;
const MFD_NOEXEC_SEAL: i32 = 8;
const MFD_EXEC: i32 = 0x10;

pub fn memfd_create(cx: &mut Cx<'_>, name: Address, flags: Flags) -> SysResult {
    let known = (libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING).cast_signed();
    flags.only(known | MFD_NOEXEC_SEAL | MFD_EXEC)?;
    let name = cx.memory().read_string(name, NAME_MAX + 1, Errno::EINVAL)?;
    let asked = MemfdFlags::from_bits_retain(flags.0) | MemfdFlags::CLOEXEC;
    let host = rustix::fs::memfd_create(name, asked)?;
    let file = Arc::new(HostFile::anonymous(host));
    let description = Description::new(file, libc::O_RDWR.cast_unsigned() | O_LARGEFILE);
    value(cx.add_description(description, flags.0 & libc::MFD_CLOEXEC != 0)?)
}

/// F_ADD_SEALS and F_GET_SEALS. `EINVAL` the file has no seals.
pub fn seals(description: &Description, command: i32, argument: u64) -> SysResult {
    let host = description.file.host().ok_or(Errno::EINVAL)?;
    if command == libc::F_GET_SEALS {
        return value(rustix::fs::fcntl_get_seals(host)?.bits());
    }
    if !description.is_writable() {
        return Err(Errno::EPERM);
    }
    rustix::fs::fcntl_add_seals(host, SealFlags::from_bits_retain(argument as u32))?;
    DONE
}

//! Id-mapped mounts: a user namespace made for its maps only, and `MOUNT_ATTR_IDMAP`.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use casemate_host::clone::{Side, clone_child, wait};
use casemate_host::mount::{MOUNT_ATTR_IDMAP, MountAttr, set_attributes};
use casemate_host::process;
use casemate_plan::op::{IdMapping, Idmap};

use crate::error::{Context, Result};

pub(super) fn apply(tree: &OwnedFd, idmap: &Idmap) -> Result<()> {
    let namespace = match idmap.fd {
        Some(fd) => process::take_fd(fd).context(|| "idmap descriptor".into())?,
        None => namespace_with(&idmap.uid, &idmap.gid)?,
    };
    let userns_fd = u64::from(namespace.as_fd().as_raw_fd().unsigned_abs());
    let attributes = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        userns_fd,
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), attributes, idmap.recursive).context(|| "id-mapped mount".into())
}

#[expect(
    clippy::exit,
    reason = "the holder is a copy of this process: it must run nothing else of it"
)]
/// A user namespace with these maps. A child holds it for as long as it takes to open it.
fn namespace_with(uid: &[IdMapping], gid: &[IdMapping]) -> Result<OwnedFd> {
    const CLONE_NEWUSER: u64 = 0x1000_0000;
    let (waits, release) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe".into())?;
    match clone_child(CLONE_NEWUSER).context(|| "clone3".into())? {
        Side::Child => {
            drop(release);
            let _ = rustix::io::read(&waits, &mut [0u8]);
            std::process::exit(0)
        }
        Side::Parent(pid) => {
            let opened = write_and_open(pid, uid, gid);
            drop(release);
            wait(pid);
            opened
        }
    }
}

fn write_and_open(pid: i32, uid: &[IdMapping], gid: &[IdMapping]) -> Result<OwnedFd> {
    for (file, map) in [("uid_map", uid), ("gid_map", gid)] {
        let path = format!("/proc/{pid}/{file}");
        let lines: Vec<String> = map
            .iter()
            .map(|(inside, outside, size)| format!("{inside} {outside} {size}\n"))
            .collect();
        fs::write(&path, lines.concat()).context(|| path.clone())?;
    }
    let path = format!("/proc/{pid}/ns/user");
    fs::File::open(&path)
        .context(|| path.clone())
        .map(OwnedFd::from)
}

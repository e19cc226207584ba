//! The engine's own file, as the container's first process has it at /proc/self/exe: one that nobody can write (CVE-2019-5736).
//!
//! Through an overlay without an upper layer: there is no way to write, whatever the container's root may do to mounts, and its pages are the page
//! cache's, one for all containers. A sealed copy in memory, where there is no overlay (without root), costs a millisecond and 2.5 MB of each container.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use casemate_host::mount::{FsContext, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use casemate_host::process;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::channel::Channel;
use crate::error::{Context, Result};
use crate::stage1;

const OWN: &str = "/proc/self/exe";
/// Of layers that cannot be written there must be two. Nobody looks for a name of this one, and nothing is left of it as of a directory made for the purpose.
const SECOND_LAYER: &str = "/sys/fs";
const SEAL_TRIES: u32 = 100;

/// Executes `init PLAN_FD CONTROL_FD` anew, from a file that nobody can write. Returns only on failure, which it has reported; the exit status.
#[must_use]
pub fn run_protected(plan_fd: i32, control_fd: i32) -> u8 {
    let Ok(control) = process::take_fd(control_fd) else {
        return 2;
    };
    let channel = Channel::new(control);
    let Err(error) = execute(plan_fd, control_fd);
    stage1::report(&channel, &error);
    1
}

fn execute(plan_fd: i32, control_fd: i32) -> Result<std::convert::Infallible> {
    let file = through_overlay()
        .or_else(|_| sealed_copy())
        .context(|| "protect the engine's file".into())?;
    process::set_close_on_exec(control_fd, false).context(|| "control descriptor".into())?;
    let text = |text: String| CString::new(text).unwrap_or_default();
    let path = text(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let words = [
        "casemate-engine".to_owned(),
        "init".to_owned(),
        plan_fd.to_string(),
        control_fd.to_string(),
    ];
    let failed = process::execve(&path, &words.map(text), &[]);
    Err(failed).context(|| "execute the engine's protected file".into())
}

/// runc does the same since 1.2 (libcontainer/exeseal).
fn through_overlay() -> io::Result<OwnedFd> {
    let own = fs::read_link(OWN)?;
    let (Some(directory), Some(name)) = (own.parent(), own.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // By descriptor: a path may have colons.
    let layer = rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let lower = format!("/proc/self/fd/{}:{SECOND_LAYER}", layer.as_raw_fd());
    let overlay = FsContext::open(c"overlay")?;
    overlay.set_string(c"source", c"casemate")?;
    overlay.set_string(c"lowerdir", &CString::new(lower)?)?;
    let mount = overlay.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(&mount, name, flags, Mode::empty())?)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = c"casemate-engine";
    // Before Linux 6.3 there is no MFD_EXEC, and every memfd is executable.
    let made = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(name, flags));
    let mut copy = fs::File::from(made?);
    io::copy(&mut fs::File::open(OWN)?, &mut copy)?;
    seal(&copy)?;
    Ok(copy.into())
}

/// EBUSY: a page that was just written is still held by another processor.
fn seal(copy: impl AsFd) -> io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for _ in 0..SEAL_TRIES {
        match rustix::fs::fcntl_add_seals(&copy, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::yield_now(),
            done => return Ok(done?),
        }
    }
    Err(rustix::io::Errno::BUSY.into())
}

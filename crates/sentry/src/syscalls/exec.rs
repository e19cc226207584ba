//! execve(2): everything that can fail is checked here, before the host replaces the address space.

use casemate_platform::loader::LOADER_FD;

use super::arguments::Flags;
use super::{Cx, DONE, Found, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::exec::{self, MAX_STRINGS};
use crate::memory::Address;

pub fn execve(cx: &mut Cx<'_>, path: Address, argv: Address, envp: Address) -> SysResult {
    execveat(cx, libc::AT_FDCWD, path, argv, envp, Flags(0))
}

pub fn execveat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    argv: Address,
    envp: Address,
    flags: Flags,
) -> SysResult {
    if cx.task()?.image.is_some() {
        // The stub (or the zygote's child) executes the loader. Whatever the path holds, the root it starts from is empty.
        let is_loader =
            directory as u32 == LOADER_FD && flags.0 == libc::AT_EMPTY_PATH.cast_unsigned();
        return if is_loader {
            Ok(Outcome::Native)
        } else {
            Err(Errno::EACCES)
        };
    }
    flags.only(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW)?;
    let path = cx.memory().read_path(path)?;
    let (found, name) = if path.is_empty() && flags.has(libc::AT_EMPTY_PATH) {
        let place = cx
            .description(directory)?
            .file
            .place()
            .cloned()
            .ok_or(Errno::EACCES)?;
        let name = format!("/dev/fd/{directory}").into_bytes();
        (Found::Place(place), name)
    } else {
        let follow = !flags.has(libc::AT_SYMLINK_NOFOLLOW);
        let found = cx.find(directory, &path, follow)?;
        if !follow && is_symlink(cx, &found)? {
            return Err(Errno::ELOOP);
        }
        let name = if directory == libc::AT_FDCWD || path.starts_with(b"/") {
            path.clone()
        } else {
            [format!("/dev/fd/{directory}/").as_bytes(), &path].concat()
        };
        (found, name)
    };
    let arguments = cx.memory().read_strings(argv, MAX_STRINGS)?;
    let environment = cx.memory().read_strings(envp, MAX_STRINGS)?;
    let context = cx.fs()?;
    let image = exec::prepare_found(&cx.walker(&context)?, found, &name, arguments, environment)?;
    let tid = cx.tid();
    cx.kernel.begin_exec(tid, image)?;
    DONE
}

fn is_symlink(cx: &Cx<'_>, found: &Found<'_>) -> Result<bool> {
    let attributes = match found {
        Found::Spot(spot) => cx.kernel.files.permissions(spot)?,
        Found::Place(place) => place.attributes(cx.kernel)?,
    };
    Ok(attributes.is_symlink())
}

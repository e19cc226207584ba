//! execve(2): everything that can fail is checked here, before the host replaces the address space.

use casemate_platform::loader::LOADER_FD;

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult};
use crate::errno::Errno;
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
    let name = cx.memory().read_path(path)?;
    let (place, name) = if name.is_empty() && flags.has(libc::AT_EMPTY_PATH) {
        let place = cx
            .description(directory)?
            .file
            .place()
            .cloned()
            .ok_or(Errno::EACCES)?;
        (place, format!("/dev/fd/{directory}").into_bytes())
    } else {
        let follow = !flags.has(libc::AT_SYMLINK_NOFOLLOW);
        let place = cx.resolve(directory, &name, follow)?;
        if !follow && place.attributes(cx.kernel)?.is_symlink() {
            return Err(Errno::ELOOP);
        }
        let name = if directory == libc::AT_FDCWD || name.starts_with(b"/") {
            name
        } else {
            [format!("/dev/fd/{directory}/").as_bytes(), &name].concat()
        };
        (place, name)
    };
    let arguments = cx.memory().read_strings(argv, MAX_STRINGS)?;
    let environment = cx.memory().read_strings(envp, MAX_STRINGS)?;
    let context = cx.fs()?;
    let image = exec::prepare(&cx.walker(&context)?, place, &name, arguments, environment)?;
    let tid = cx.tid();
    cx.kernel.begin_exec(tid, image)?;
    DONE
}

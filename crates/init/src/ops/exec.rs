//! `chdir`, `check_exec`, `exec`: the last steps before the program.

use std::ffi::CString;

use casemate_host::{device, process};
use casemate_plan::op::Exec;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, accessat, fstat, openat2,
};
use rustix::io::Errno;

use super::mount::c_string;
use crate::child::State;
use crate::error::{Context, Error, Result};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Enters the working directory below the root, made there where it is missing: never by string, for a `cwd` such as /proc/self/fd/7 would lead out
/// through a descriptor of the host's (CVE-2024-21626).
pub(super) fn chdir(path: &str, create: bool, state: &State) -> Result<()> {
    let root = state.root()?;
    let what = || format!("working directory {path}");
    let directory = if create {
        root.make_dirs(path).map_err(|error| {
            Error::with_errno(format!("working directory {}", error.message), error.errno)
        })?
    } else {
        match root.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            // A filter that is in force already need not know openat2; `create` has been here before it was, so the path is a directory's.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::process::chdir(path).context(what)?;
                return inside(path);
            }
            found => found.context(what)?,
        }
    };
    rustix::process::fchdir(&directory).context(what)?;
    inside(path)
}

/// getcwd(2) has no path to give for a directory outside of the root.
fn inside(path: &str) -> Result<()> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(place) if place.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Error::plain(format!(
            "working directory {path} is outside of the container's root"
        ))),
    }
}

/// Finds the program and marks what it must not inherit, before a seccomp filter is in force: a profile need not allow what we look with (faccessat2,
/// close_range), only what executes.
pub(super) fn check_exec(exec: &Exec, state: &mut State) -> Result<()> {
    state.program = Some(find_program(exec)?);
    reopen_null_streams(state);
    process::close_range_on_exec(3).context(|| "close_range".into())
}

/// Gives the program the container's /dev/null where a standard stream is the host's: by /proc/self/fd/0 it could change the mode and owner of that
/// inode, which is everybody's. A container without the device keeps what it was given. runc: reOpenDevNull().
fn reopen_null_streams(state: &State) {
    let replace = [
        rustix::stdio::dup2_stdin,
        rustix::stdio::dup2_stdout,
        rustix::stdio::dup2_stderr,
    ];
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for (stream, replace) in streams.into_iter().zip(replace) {
        if !device::is_null(stream) {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let own = state
            .root()
            .ok()
            .and_then(|root| root.open("/dev/null", flags).ok());
        if let Some(own) = own
            && device::is_null(&own)
        {
            let _ = replace(own);
        }
    }
}

pub(super) fn exec(exec: &Exec, state: &State) -> Result<()> {
    let found = state
        .program
        .as_deref()
        .ok_or_else(|| Error::plain("exec without check_exec"))?;
    let program = c_string(found)?;
    let args = exec
        .args
        .iter()
        .map(|text| c_string(text))
        .collect::<Result<Vec<CString>>>()?;
    let env = exec
        .env
        .iter()
        .map(|text| c_string(text))
        .collect::<Result<Vec<CString>>>()?;
    for fd in &state.keep_fds {
        process::set_close_on_exec(*fd, false).context(|| format!("keep descriptor {fd}"))?;
    }
    process::reset_signals();
    let error = process::execve(&program, &args, &env);
    Err(Error::io(format!("exec: {found:?}"), &error))
}

/// The program's path: as it is if it has a slash, else the first executable file of that name in PATH.
fn find_program(exec: &Exec) -> Result<String> {
    let name = exec
        .args
        .first()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::with_errno("no program to execute", libc::EINVAL))?;
    if name.contains('/') {
        return check_file(name).map(|()| name.clone());
    }
    let from_env = exec
        .env
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="));
    let path = exec.path.as_deref().or(from_env).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for directory in path.split(':') {
        let candidate = format!(
            "{}/{name}",
            if directory.is_empty() { "." } else { directory }
        );
        match check_file(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.errno == libc::EACCES => denied = Some(error),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| {
        Error::with_errno(
            format!("exec: {name:?}: executable file not found in $PATH"),
            libc::ENOENT,
        )
    }))
}

/// Whether the path is an executable file, reached without a magic link: /proc/self/fd/N of a descriptor passed on would be a file of the host's.
fn check_file(path: &str) -> Result<()> {
    let what = || format!("exec: {path:?}");
    let file = openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )
    .context(what)?;
    if crate::root::file_type(&file)? == FileType::Directory {
        return Err(Error::with_errno(
            format!("exec: {path:?}: is a directory"),
            libc::EACCES,
        ));
    }
    let mode = fstat(&file).context(what)?.st_mode;
    let permitted = accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS);
    if mode & 0o111 != 0 && permitted.is_ok() {
        Ok(())
    } else {
        Err(Error::with_errno(
            format!("exec: {path:?}: permission denied"),
            libc::EACCES,
        ))
    }
}

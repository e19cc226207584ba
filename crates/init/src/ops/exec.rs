//! `chdir`, `check_exec`, `exec`: the last steps before the program.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;

use casemate_host::process;
use casemate_plan::op::Exec;
use rustix::fs::{Access, AtFlags, accessat};

use super::mount::c_string;
use crate::child::State;
use crate::error::{Context, Error, Result};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Enters the working directory and verifies that it lies below the root: a `cwd` such as /proc/self/fd/7 would lead out through a descriptor of
/// the host's (CVE-2024-21626); getcwd(2) then has no path to give.
pub(super) fn chdir(path: &str, create: bool) -> Result<()> {
    if create && !std::path::Path::new(path).exists() {
        std::fs::create_dir_all(path).context(|| format!("make the working directory {path}"))?;
    }
    rustix::process::chdir(path).context(|| format!("working directory {path}"))?;
    let here = rustix::process::getcwd(Vec::new());
    match here {
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
    process::close_range_on_exec(3).context(|| "close_range".into())
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

fn check_file(path: &str) -> Result<()> {
    let metadata = std::fs::metadata(path).context(|| format!("exec: {path:?}"))?;
    if metadata.is_dir() {
        return Err(Error::with_errno(
            format!("exec: {path:?}: is a directory"),
            libc::EACCES,
        ));
    }
    let executable = metadata.permissions().mode() & 0o111 != 0
        && accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    if executable {
        Ok(())
    } else {
        Err(Error::with_errno(
            format!("exec: {path:?}: permission denied"),
            libc::EACCES,
        ))
    }
}

//! `casemate-engine jailer`: a monitor in a jail, with the options of Firecracker's jailer.
//!
//! The jail: a root of its own with nothing in it but the device files that a monitor needs and what `--bind` shows, mounted where nothing
//! else is; namespaces for mounts, IPC, host name and cgroups, and for the network if one is named; cgroups; resource limits; landlock; a user
//! of its own, without a capability and without a way to one. There is no second program: the jailer becomes the monitor, so no executable lies
//! in the jail.
mod options;
mod place;

use std::path::PathBuf;

use casemate_plan::op::Credentials;

use options::{Options, parse};

#[derive(Debug, thiserror::Error)]
enum JailError {
    #[error("{0}")]
    Usage(String),
    #[error("{what}: {source}")]
    Call {
        what: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Jail(#[from] casemate_jail::Error),
}

fn failed<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> JailError {
    let what = what.into();
    move |error| JailError::Call {
        what,
        source: error.into(),
    }
}

/// Closes the jail around this process as `words` say. The arguments of the monitor, or why not.
pub(crate) fn enter(words: &[&str]) -> Result<Vec<String>, String> {
    let options = parse(words).map_err(|error| error.to_string())?;
    close(&options).map_err(|error| error.to_string())?;
    Ok([vec!["--id".to_owned(), options.id], options.arguments].concat())
}

fn close(options: &Options) -> Result<(), JailError> {
    // What the starter left open is no business of the monitor's.
    casemate_host::process::close_all_but(&[]).map_err(failed("close_range"))?;
    let root = root(options);
    place::join_cgroups(options)?;
    place::join_network(options)?;
    place::set_limits(options)?;
    place::leave_namespaces()?;
    place::make_root(&root, options)?;
    crate::raw::keep_pagemap();
    place::change_root(&root, &options.binds)?;
    if options.daemonize {
        place::leave_terminal()?;
    }
    casemate_jail::no_new_privs()?;
    casemate_jail::landlock::close_engine()?;
    Ok(casemate_jail::credentials::apply(&Credentials {
        uid: options.uid,
        gid: options.gid,
        groups: Some(Vec::new()),
        umask: Some(0o077),
        capabilities: None,
    })?)
}

/// Firecracker's place: `<base>/<name of the executable>/<id>/root`.
fn root(options: &Options) -> PathBuf {
    options
        .base
        .join("casemate-engine")
        .join(&options.id)
        .join("root")
}

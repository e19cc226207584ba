//! `watch`: an inotify descriptor for whoever asked; events then go to them without the agent.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::{About, Answer};

/// Directories watched at most by one request (the host's default of fs.inotify.max_user_watches is 8192 and more).
const MOST: usize = 4096;

const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// A further directory of a watch.
pub(crate) fn add(inotify: &OwnedFd, path: &str) -> Answer<i32> {
    add_watch(inotify, path, FLAGS | WatchFlags::DONT_FOLLOW).about(path)
}

/// The descriptor, and which watch is which directory (relative to `path`).
pub(crate) fn watch(path: &str, recursive: bool) -> Answer<(OwnedFd, Vec<(i32, String)>)> {
    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).about("inotify")?;
    let mut directories = Vec::new();
    let mut todo = vec![String::new()];
    while let Some(relative) = todo.pop() {
        let directory = Path::new(path).join(&relative);
        let descriptor = match add_watch(&inotify, &directory, FLAGS) {
            Ok(descriptor) => descriptor,
            Err(_) if !relative.is_empty() => continue, // removed meanwhile, or not ours to read
            Err(error) => return Err(error).about(path),
        };
        if recursive && directories.len() < MOST {
            todo.extend(inner_directories(&directory, &relative));
        }
        directories.push((descriptor, relative));
    }
    Ok((inotify, directories))
}

fn inner_directories(directory: &Path, relative: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let directories = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if relative.is_empty() {
                name
            } else {
                format!("{relative}/{name}")
            }
        })
        .collect()
}

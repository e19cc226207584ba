//! What path names of a process start from. path_resolution(7).

use super::place::Place;

#[derive(Debug, Clone)]
pub struct FsContext {
    pub root: Place,
    pub cwd: Place,
    pub umask: u32,
}

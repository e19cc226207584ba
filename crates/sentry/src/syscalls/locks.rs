//! File locks: fcntl(2)'s of processes and of open file descriptions, flock(2).

use std::sync::Arc;

use super::{Cx, SysResult};
use crate::errno::Errno;
use crate::vfs::description::Description;

/// The rest of fcntl(2).
pub fn fcntl(
    _cx: &mut Cx<'_>,
    _description: &Arc<Description>,
    _command: i32,
    _argument: u64,
) -> SysResult {
    Err(Errno::EINVAL)
}

//! getsockopt(2), setsockopt(2).

use super::{Cx, DONE, SysResult};
use crate::errno::Errno;
use crate::memory::Address;
use crate::vfs::socket::{self, host_options};

pub fn setsockopt(
    cx: &mut Cx<'_>,
    fd: i32,
    level: i32,
    name: i32,
    at: Address,
    len: i32,
) -> SysResult {
    let description = cx.open_description(fd)?;
    let socket = socket::of(&description)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    // No option that is known has a longer value; what lies behind it is not looked at.
    let value = cx.memory().read_vec(at, len.min(host_options::LONGEST))?;
    socket.set_option(cx, level, name, &value)?;
    DONE
}

pub fn getsockopt(
    cx: &mut Cx<'_>,
    fd: i32,
    level: i32,
    name: i32,
    at: Address,
    len: Address,
) -> SysResult {
    let description = cx.open_description(fd)?;
    let socket = socket::of(&description)?;
    let room = cx.memory().read_u32(len)?.cast_signed();
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let mut value = socket.option(cx, level, name, room)?;
    value.truncate(room);
    cx.memory().write(at, &value)?;
    cx.memory().write_u32(len, value.len() as u32)?;
    DONE
}

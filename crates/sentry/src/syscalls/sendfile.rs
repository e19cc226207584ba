//! sendfile(2).

use super::transfer::{CHUNK, MOST, Offset, input, output, raise, read_some, write_some};
use super::{Cx, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::kernel::wake::Ticket;
use crate::memory::Address;
use crate::vfs::description::Description;

const APPEND: u32 = libc::O_APPEND.cast_unsigned();

pub fn sendfile(cx: &mut Cx<'_>, out: i32, from: i32, offset: Address, count: usize) -> SysResult {
    let source = input(cx, from)?;
    let target = output(cx, out)?;
    // Not from a pipe either: programs fall back to reading then. Linux: splice_direct_to_actor().
    if source.file.is_stream() {
        return Err(if offset.is_null() {
            Errno::EINVAL
        } else {
            Errno::ESPIPE
        });
    }
    if source.attributes_are_directory()? {
        return Err(Errno::EINVAL);
    }
    if target.flags() & APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut at = Offset::read(cx, &source, offset)?;
    let count = count.min(MOST) as u64;
    let mut done = cx.progress();
    let ticket = cx.ticket()?;
    if let Some(queue) = target.file.queue() {
        queue.add(ticket);
    }
    while done < count {
        let limit = CHUNK.min((count - done) as usize);
        let start = at.value().unwrap_or_else(|| source.next_byte());
        source.file.refresh(cx, &source, Some(start));
        let bytes = read_some(&source, limit, Some(start))?;
        if bytes.is_empty() {
            break;
        }
        match write_some(cx, &target, bytes, None, ticket) {
            Ok(moved) => {
                done += moved as u64;
                at.advance(cx, moved)?;
                if matches!(at, Offset::Own) {
                    source.move_to(start + moved as u64);
                }
                if moved == 0 {
                    break;
                }
            }
            Err(Errno::EAGAIN) if !target.is_nonblocking() => {
                return wait(cx, ticket, done);
            }
            Err(error) if done == 0 => return Err(raise(cx, error)),
            Err(_) => break,
        }
    }
    value(done)
}

fn wait(cx: &mut Cx<'_>, ticket: Ticket, done: u64) -> SysResult {
    match cx.wait(ticket, None, Restart::IfAsked, done) {
        Err(Errno::EINTR) if done > 0 => {
            cx.task_mut()?.interrupted = None;
            value(done)
        }
        other => other,
    }
}

impl Description {
    fn attributes_are_directory(&self) -> Result<bool> {
        Ok(self.file.attributes()?.is_directory())
    }
}

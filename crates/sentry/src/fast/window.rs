//! The part of a program's memory that a slot stands for while its call is served: what the stub copied there already, or will copy from there.
//! Handlers read and write addresses as ever; these few are found in the slot, which spares a call of the host's for each.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use casemate_platform::channel::Channel;
use casemate_platform::fast::{Class, class};
use casemate_platform::memory;

const STAT: usize = 144;
const STATX: usize = 256;

/// Of one call, on the thread that serves it.
#[derive(Debug)]
pub struct Window {
    tid: i32,
    channel: Arc<Channel>,
    slot: usize,
    /// Start and length of what is there to be read, of a path and of data; and of what may be written.
    path: (u64, usize),
    input: (u64, usize),
    output: (u64, usize),
    /// How much has been written, from the start on.
    written: usize,
}

thread_local! {
    static CURRENT: RefCell<Option<Window>> = const { RefCell::new(None) };
}

impl Window {
    /// By the call's class and its arguments; `path` and `data`: how many bytes the stub says that it copied, or will.
    #[must_use]
    pub fn new(
        tid: i32,
        (channel, slot): (Arc<Channel>, usize),
        (nr, args): (i32, &[u64; 6]),
        (path, data): (usize, usize),
    ) -> Self {
        let mut window = Self {
            tid,
            channel,
            slot,
            path: (0, 0),
            input: (0, 0),
            output: (0, 0),
            written: 0,
        };
        match class(nr) {
            Class::None | Class::Plain => {}
            Class::Read | Class::Receive => window.output = (args[1], data),
            Class::Write | Class::Send => window.input = (args[1], data),
            Class::Fstat => window.output = (args[1], STAT.min(data)),
            Class::Path => window.path = (args[0], path),
            Class::PathAt => window.path = (args[1], path),
            Class::Stat => {
                window.path = (args[0], path);
                window.output = (args[1], STAT.min(data));
            }
            Class::StatAt => {
                window.path = (args[1], path);
                window.output = (args[2], STAT.min(data));
            }
            Class::Link => {
                window.path = (args[0], path);
                window.output = (args[1], data);
            }
            Class::LinkAt => {
                window.path = (args[1], path);
                window.output = (args[2], data);
            }
            Class::Lock => window.input = (args[2], data),
            Class::Statx => {
                window.path = (args[1], path);
                window.output = (args[4], STATX.min(data));
            }
        }
        window
    }

    /// Serves one call with this window; returns how many bytes the stub is to copy besides what `serve` returns.
    pub fn open<T>(self, serve: impl FnOnce() -> T) -> (T, usize) {
        /// Closes it on every way out, a panic's too.
        struct Closing;
        impl Drop for Closing {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| *current = None);
            }
        }
        CURRENT.with_borrow_mut(|current| *current = Some(self));
        let closing = Closing;
        let result = serve();
        let written = CURRENT.with_borrow(|current| current.as_ref().map_or(0, |own| own.written));
        drop(closing);
        (result, written)
    }

    /// Where in a stretch an address lies.
    fn within((start, len): (u64, usize), at: u64) -> Option<usize> {
        let offset = usize::try_from(at.checked_sub(start)?).ok()?;
        (offset < len).then_some(offset)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Option<usize> {
        if let Some(offset) = Self::within(self.path, at) {
            let count = into.len().min(self.path.1 - offset);
            self.channel
                .read_path(self.slot, offset, &mut into[..count]);
            return Some(count);
        }
        let offset = Self::within(self.input, at)?;
        if into.len() > self.input.1 - offset {
            return None;
        }
        self.channel.read_data(self.slot, offset, into);
        Some(into.len())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Option<usize> {
        let offset = Self::within(self.output, at)?;
        if from.len() > self.output.1 - offset || offset > self.written {
            return None;
        }
        self.channel.write_data(self.slot, offset, from);
        self.written = self.written.max(offset + from.len());
        Some(from.len())
    }
}

/// Reads a file at a position straight to where the stub copies from: `len` bytes for address `to`. `None`: that is not in the window.
pub fn read_file(
    tid: i32,
    to: u64,
    len: usize,
    file: (BorrowedFd<'_>, u64),
) -> Option<io::Result<usize>> {
    CURRENT.with_borrow_mut(|current| {
        let window = current.as_mut().filter(|window| window.tid == tid)?;
        let offset = Window::within(window.output, to)?;
        if len > window.output.1 - offset || offset > window.written {
            return None;
        }
        let count = window.channel.read_file(window.slot, offset, len, file);
        if let Ok(count) = count {
            window.written = window.written.max(offset + count);
        }
        Some(count)
    })
}

/// Writes to a file straight from what the stub copied, likewise.
pub fn write_file(
    tid: i32,
    from: u64,
    len: usize,
    file: (BorrowedFd<'_>, u64),
) -> Option<io::Result<usize>> {
    CURRENT.with_borrow(|current| {
        let window = current.as_ref().filter(|window| window.tid == tid)?;
        let offset = Window::within(window.input, from)?;
        if len > window.input.1 - offset {
            return None;
        }
        Some(window.channel.write_file(window.slot, offset, len, file))
    })
}

/// As `casemate_platform::memory::read`, and through the window of the call that is being served.
///
/// # Errors
/// As that.
pub fn read(tid: i32, from: u64, into: &mut [u8]) -> io::Result<usize> {
    let copied = CURRENT.with_borrow(|current| {
        let window = current.as_ref().filter(|window| window.tid == tid)?;
        window.read(from, into)
    });
    match copied {
        Some(count) => Ok(count),
        None => memory::read(tid, from, into),
    }
}

/// As `casemate_platform::memory::write`, likewise.
///
/// # Errors
/// As that.
pub fn write(tid: i32, to: u64, from: &[u8]) -> io::Result<usize> {
    let copied = CURRENT.with_borrow_mut(|current| {
        let window = current.as_mut().filter(|window| window.tid == tid)?;
        window.write(to, from)
    });
    match copied {
        Some(count) => Ok(count),
        None => memory::write(tid, to, from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(nr: i64, args: [u64; 6], lengths: (usize, usize)) -> Window {
        let channel = Arc::new(Channel::new().expect("memfd"));
        Window::new(1, (channel, 0), (nr as i32, &args), lengths)
    }

    #[test]
    fn data_goes_where_the_call_says_and_in_order() {
        let mut window = window(libc::SYS_read, [0, 0x1000, 64, 0, 0, 0], (0, 64));
        assert_eq!(window.write(0x1000, &[1; 16]), Some(16));
        assert_eq!(window.write(0x1020, &[1; 16]), None, "a gap");
        assert_eq!(window.write(0x1010, &[1; 64]), None, "beyond the end");
        assert_eq!(window.write(0x2000, &[1; 1]), None, "elsewhere");
        assert_eq!(window.written, 16);
    }

    #[test]
    fn a_path_is_read_as_far_as_it_was_copied() {
        let window = window(libc::SYS_open, [0x1000, 0, 0, 0, 0, 0], (8, 0));
        assert_eq!(window.read(0x1000, &mut [0; 256]), Some(8));
        assert_eq!(window.read(0x1004, &mut [0; 256]), Some(4));
        assert_eq!(window.read(0x1008, &mut [0; 256]), None);
    }

    #[test]
    fn lengths_that_overflow_find_nothing() {
        let window = window(libc::SYS_write, [0, u64::MAX - 4, 64, 0, 0, 0], (0, 64));
        assert_eq!(window.read(4, &mut [0; 4]), None);
        assert_eq!(window.read(u64::MAX - 2, &mut [0; 4]), Some(4));
    }
}

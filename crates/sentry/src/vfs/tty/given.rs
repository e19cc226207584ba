//! A terminal of the host that the sandbox was given as a stream, without being given a terminal of its own: it can be asked, not changed.

use std::os::fd::BorrowedFd;

use rustix::termios::{tcgetattr, tcgetwinsize};

use super::ioctl::{TIOCGWINSZ, TIOCOUTQ, TIOCSTI, TIOCSWINSZ, size_bytes};
use super::settings;
use super::termios::Termios;
use crate::errno::{Errno, Result};
use crate::memory::Address;
use crate::syscalls::Cx;
use crate::vfs::file::FIONREAD;

/// What programs ask to know whether somebody looks, and how wide to print. A change is EIO, as for a background process: the terminal is its owner's, who
/// would be left with what the sandbox made of it. It is nobody's controlling terminal inside, so job control is ENOTTY.
pub fn ioctl(cx: &Cx<'_>, fd: BorrowedFd<'_>, request: u32, argument: Address) -> Result<i64> {
    if request == FIONREAD {
        let count = rustix::io::ioctl_fionread(fd)?;
        cx.memory().write_i32(argument, count as i32)?;
        return Ok(0);
    }
    let host = tcgetattr(fd).map_err(|_| Errno::ENOTTY)?;
    match request {
        TIOCGWINSZ => {
            let size = tcgetwinsize(fd)?;
            let bytes = size_bytes([size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel]);
            cx.memory().write(argument, &bytes)?;
        }
        TIOCOUTQ => cx.memory().write_i32(argument, 0)?,
        TIOCSTI | TIOCSWINSZ => return Err(Errno::EIO),
        _ if settings::is_setter(request) => return Err(Errno::EIO),
        _ => {
            let bytes = settings::get(&from_host(&host), request).ok_or(Errno::ENOTTY)?;
            cx.memory().write(argument, &bytes)?;
        }
    }
    Ok(0)
}

fn from_host(host: &rustix::termios::Termios) -> Termios {
    use rustix::termios::SpecialCodeIndex as Index;
    let mut chars = [0; 19];
    let codes = [
        (libc::VINTR, Index::VINTR),
        (libc::VQUIT, Index::VQUIT),
        (libc::VERASE, Index::VERASE),
        (libc::VKILL, Index::VKILL),
        (libc::VEOF, Index::VEOF),
        (libc::VTIME, Index::VTIME),
        (libc::VMIN, Index::VMIN),
        (libc::VSWTC, Index::VSWTC),
        (libc::VSTART, Index::VSTART),
        (libc::VSTOP, Index::VSTOP),
        (libc::VSUSP, Index::VSUSP),
        (libc::VEOL, Index::VEOL),
        (libc::VREPRINT, Index::VREPRINT),
        (libc::VDISCARD, Index::VDISCARD),
        (libc::VWERASE, Index::VWERASE),
        (libc::VLNEXT, Index::VLNEXT),
        (libc::VEOL2, Index::VEOL2),
    ];
    for (at, index) in codes {
        chars[at] = host.special_codes[index];
    }
    Termios {
        input: host.input_modes.bits(),
        output: host.output_modes.bits(),
        control: host.control_modes.bits(),
        local: host.local_modes.bits(),
        line: 0,
        chars,
        input_speed: host.input_speed(),
        output_speed: host.output_speed(),
    }
}

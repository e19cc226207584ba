//! The settings' ioctls: `TCGETS` and its kin. ioctl_tty(2), "Get and set terminal attributes".

use std::sync::Arc;

use super::Tty;
use super::control::{SIGTTOU, check_foreground};
use super::termios::{TERMIO, TERMIOS, TERMIOS2, Termios};
use crate::errno::Result;
use crate::memory::Address;
use crate::syscalls::Cx;

const TCGETS: u32 = 0x5401;
const TCGETA: u32 = 0x5405;
const TCGETS2: u32 = 0x802C_542A;
const TIOCGLCKTRMIOS: u32 = 0x5456;

enum Layout {
    Termio,
    Termios,
    Termios2,
}

/// Which layout a setting call has, and whether it drops what was typed.
fn setter(request: u32) -> Option<(Layout, bool)> {
    match request {
        0x5402..=0x5404 => Some((Layout::Termios, request == 0x5404)),
        0x5406..=0x5408 => Some((Layout::Termio, request == 0x5408)),
        0x402C_542B..=0x402C_542D => Some((Layout::Termios2, request == 0x402C_542D)),
        _ => None,
    }
}

/// The bytes that a getting call copies out, of `termios`.
#[must_use]
pub(in crate::vfs) fn get(termios: &Termios, request: u32) -> Option<Vec<u8>> {
    match request {
        TCGETS => Some(termios.to_bytes()[..TERMIOS].to_vec()),
        TCGETS2 => Some(termios.to_bytes().to_vec()),
        TCGETA => Some(termios.to_termio().to_vec()),
        // Nothing is ever locked.
        TIOCGLCKTRMIOS => Some(vec![0; TERMIOS]),
        _ => None,
    }
}

#[must_use]
pub(in crate::vfs) fn is_setter(request: u32) -> bool {
    setter(request).is_some()
}

/// Serves the call if it is one of these. A background process may not change settings by the slave.
pub(super) fn ioctl(
    cx: &mut Cx<'_>,
    tty: &Arc<Tty>,
    from_master: bool,
    request: u32,
    argument: Address,
) -> Option<Result<i64>> {
    let termios = tty.lock().termios;
    if let Some(bytes) = get(&termios, request) {
        return Some(cx.memory().write(argument, &bytes).map(|()| 0));
    }
    let (layout, flushes) = setter(request)?;
    Some(set(cx, tty, from_master, argument, &layout, flushes))
}

fn set(
    cx: &mut Cx<'_>,
    tty: &Arc<Tty>,
    from_master: bool,
    argument: Address,
    layout: &Layout,
    flushes: bool,
) -> Result<i64> {
    if !from_master {
        check_foreground(cx, tty, SIGTTOU)?;
    }
    let new = match layout {
        Layout::Termio => {
            let mut bytes = [0; TERMIO];
            cx.memory().read(argument, &mut bytes)?;
            tty.lock().termios.with_termio(&bytes)
        }
        Layout::Termios => Termios::from_bytes(&cx.memory().read_vec(argument, TERMIOS)?),
        Layout::Termios2 => Termios::from_bytes(&cx.memory().read_vec(argument, TERMIOS2)?),
    };
    tty.change(|state| {
        if flushes {
            state.flush_input();
        }
        state.set_termios(new);
        state.receive_waiting();
    });
    Ok(0)
}

//! The other ioctls of terminals. ioctl_tty(2).

use std::sync::Arc;

use super::control::{self, SIGTTOU, check_foreground};
use super::devpts::PtsNode;
use super::state::State;
use super::{Tty, settings};
use crate::errno::{Errno, Result};
use crate::memory::Address;
use crate::syscalls::Cx;
use crate::syscalls::arguments::Flags;
use crate::vfs::attributes::device_number;
use crate::vfs::description::{Description, O_ACCMODE};
use crate::vfs::file::FIONREAD;
use crate::vfs::place::Place;

const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540A;
const TCFLSH: u32 = 0x540B;
const TIOCEXCL: u32 = 0x540C;
const TIOCNXCL: u32 = 0x540D;
const TIOCSCTTY: u32 = 0x540E;
const TIOCGPGRP: u32 = 0x540F;
pub const TIOCSPGRP: u32 = 0x5410;
pub const TIOCOUTQ: u32 = 0x5411;
pub const TIOCSTI: u32 = 0x5412;
pub const TIOCGWINSZ: u32 = 0x5413;
pub const TIOCSWINSZ: u32 = 0x5414;
const TIOCGSOFTCAR: u32 = 0x5419;
const TIOCPKT: u32 = 0x5420;
const TIOCNOTTY: u32 = 0x5422;
const TIOCSETD: u32 = 0x5423;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCSBRK: u32 = 0x5427;
const TIOCCBRK: u32 = 0x5428;
const TIOCGSID: u32 = 0x5429;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGDEV: u32 = 0x8004_5432;
const TIOCSIG: u32 = 0x4004_5436;
const TIOCVHANGUP: u32 = 0x5437;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;
const TIOCGPTPEER: u32 = 0x5441;
const SLAVE_MAJOR: u32 = 136;

pub fn slave(
    cx: &mut Cx<'_>,
    tty: &Arc<Tty>,
    description: &Description,
    request: u32,
    argument: Address,
) -> Result<i64> {
    if let Some(result) = settings::ioctl(cx, tty, false, request, argument) {
        return result;
    }
    match request {
        TIOCSCTTY => control::acquire(cx, tty, argument, description.is_readable())?,
        TIOCNOTTY => control::give_up(cx, tty)?,
        TIOCGPGRP | TIOCGSID if !control::is_controlling(cx, tty) => return Err(Errno::ENOTTY),
        TIOCSPGRP => control::set_foreground(cx, tty, argument)?,
        TIOCSETD | TIOCSBRK | TIOCCBRK | TCSBRK | TCSBRKP | TCXONC | TCFLSH => {
            check_foreground(cx, tty, SIGTTOU)?;
            return line(cx, tty, false, request, argument);
        }
        // Nothing waits to be sent: what is printed is at the master at once. Linux: a pty has no chars_in_buffer.
        TIOCOUTQ => cx.memory().write_i32(argument, 0)?,
        FIONREAD => {
            let count = tty.lock().readable_bytes();
            cx.memory().write_i32(argument, count as i32)?;
        }
        _ => return either(cx, tty, request, argument),
    }
    Ok(0)
}

pub fn master(cx: &mut Cx<'_>, tty: &Arc<Tty>, request: u32, argument: Address) -> Result<i64> {
    if let Some(result) = settings::ioctl(cx, tty, true, request, argument) {
        return result;
    }
    match request {
        TIOCGPTN => cx.memory().write_u32(argument, tty.number)?,
        TIOCSPTLCK => {
            let is_locked = cx.memory().read_u32(argument)? != 0;
            tty.lock().is_locked = is_locked;
        }
        TIOCGPTLCK => {
            let is_locked = tty.lock().is_locked;
            cx.memory().write_u32(argument, u32::from(is_locked))?;
        }
        TIOCPKT => {
            let on = cx.memory().read_u32(argument)? != 0;
            tty.change(|state| {
                if on && !state.has_packets {
                    state.packet_status = 0;
                }
                state.has_packets = on;
            });
        }
        TIOCGPKT => {
            let on = tty.lock().has_packets;
            cx.memory().write_u32(argument, u32::from(on))?;
        }
        TIOCSIG => {
            let signal = argument.0 as i32;
            if ![libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP].contains(&signal) {
                return Err(Errno::EINVAL);
            }
            tty.change(|state| state.signals.push(signal));
        }
        TIOCGPTPEER => return open_peer(cx, tty, Flags(argument.0 as u32)),
        TIOCSCTTY => control::acquire(cx, tty, argument, true)?,
        TIOCNOTTY | TIOCSPGRP => return Err(Errno::ENOTTY),
        TIOCSETD | TIOCSBRK | TIOCCBRK | TCSBRK | TCSBRKP | TCXONC | TCFLSH => {
            return line(cx, tty, true, request, argument);
        }
        TIOCOUTQ => cx.memory().write_i32(argument, 0)?,
        FIONREAD => {
            let count = tty.lock().output.len();
            cx.memory().write_i32(argument, count as i32)?;
        }
        _ => return either(cx, tty, request, argument),
    }
    Ok(0)
}

/// What is the same on both sides.
fn either(cx: &mut Cx<'_>, tty: &Arc<Tty>, request: u32, argument: Address) -> Result<i64> {
    match request {
        TIOCGPGRP => {
            let group = tty.lock().foreground;
            cx.memory().write_i32(argument, group)?;
        }
        TIOCGSID => {
            let session = tty.lock().session;
            if session == 0 {
                return Err(Errno::ENOTTY);
            }
            cx.memory().write_i32(argument, session)?;
        }
        TIOCGWINSZ => {
            tty.refresh_size();
            let size = tty.lock().size;
            cx.memory().write(argument, &size_bytes(size))?;
        }
        TIOCSWINSZ => {
            let bytes = cx.memory().read_vec(argument, 8)?;
            let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            tty.set_size([word(0), word(2), word(4), word(6)]);
        }
        // A program must not type for its user. Linux: dev.tty.legacy_tiocsti = 0.
        TIOCSTI => return Err(Errno::EIO),
        TIOCEXCL | TIOCNXCL => tty.lock().is_exclusive = request == TIOCEXCL,
        TIOCGEXCL => {
            let is_exclusive = tty.lock().is_exclusive;
            cx.memory().write_u32(argument, u32::from(is_exclusive))?;
        }
        TIOCGETD | TIOCGSOFTCAR => cx.memory().write_u32(argument, 0)?,
        TIOCGDEV => {
            let device = device_number(SLAVE_MAJOR, tty.number);
            // new_encode_dev(): a minor beyond 255 does not occur among the first majors' numbers that fit.
            cx.memory().write_u32(argument, device as u32)?;
        }
        TIOCVHANGUP => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

#[must_use]
pub fn size_bytes(size: [u16; 4]) -> Vec<u8> {
    size.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Breaks, flow and flushing.
fn line(
    cx: &mut Cx<'_>,
    tty: &Arc<Tty>,
    from_master: bool,
    request: u32,
    argument: Address,
) -> Result<i64> {
    match request {
        // N_TTY is the only discipline.
        TIOCSETD if cx.memory().read_u32(argument)? != 0 => return Err(Errno::EINVAL),
        TCXONC => flow(tty, from_master, argument.0)?,
        TCFLSH => {
            let (input, output) = match argument.0 {
                0 => (true, false),
                1 => (false, true),
                2 => (true, true),
                _ => return Err(Errno::EINVAL),
            };
            tty.change(|state| flush(state, from_master, input, output));
        }
        _ => {}
    }
    Ok(0)
}

fn flush(state: &mut State, from_master: bool, input: bool, output: bool) {
    if from_master {
        // The master's input is what the slave printed.
        if input {
            state.output.clear();
        }
        if output {
            state.incoming.clear();
        }
        return;
    }
    if input {
        state.flush_input();
        state.incoming.clear();
    }
    if output {
        state.flush_output();
    }
}

/// tcflow(3).
fn flow(tty: &Arc<Tty>, from_master: bool, action: u64) -> Result<()> {
    let send = |index: usize| {
        tty.change(|state| {
            let byte = state.termios.chars[index];
            if byte != 0 {
                state.put(byte);
            }
        });
    };
    match action {
        0..=3 if from_master => {}
        0 => tty.change(|state| {
            state.is_stopped_by_call = true;
            state.stop();
        }),
        1 => tty.change(|state| {
            if std::mem::take(&mut state.is_stopped_by_call) {
                state.start();
            }
        }),
        2 => send(libc::VSTOP),
        3 => send(libc::VSTART),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Opens the slave of this very master, wherever /dev/pts is.
fn open_peer(cx: &mut Cx<'_>, tty: &Arc<Tty>, flags: Flags) -> Result<i64> {
    let place = Place::Pts(PtsNode::Slave(tty.number));
    let file = super::slave::Slave::open(tty, place, None)?;
    if !flags.has(libc::O_NOCTTY) {
        control::acquire_by_open(cx, tty)?;
    }
    let kept = (O_ACCMODE | libc::O_NONBLOCK).cast_unsigned();
    let description = Description::new(file, flags.0 & kept);
    cx.add_description(description, flags.has(libc::O_CLOEXEC))
        .map(i64::from)
}

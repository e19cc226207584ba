//! The options of level SOL_SOCKET that the sentry keeps itself: time limits for every kind, and all of them for local sockets. socket(7).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Direction, int};
use crate::errno::{Errno, Result};
use crate::memory::word;

/// Linux: net.core.wmem_default, rmem_default and their maxima, as on most machines.
pub const DEFAULT_BUFFER: i32 = 212_992;
const LARGEST_BUFFER: i32 = 212_992;
/// Linux: SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF.
const LEAST_SEND_BUFFER: i32 = 4608;
const LEAST_RECEIVE_BUFFER: i32 = 2304;
const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;
/// Linux: sock_set_timeout() takes longer ones for none at all.
const LONGEST: u64 = i64::MAX as u64 / 1000;

#[derive(Debug)]
pub struct Values {
    limits: [Option<Duration>; 2],
    pub send_buffer: i32,
    pub receive_buffer: i32,
    pub passes_credentials: bool,
    /// What is kept only to be told again: SO_REUSEADDR, SO_KEEPALIVE and the like.
    kept: BTreeMap<i32, Vec<u8>>,
}

#[derive(Debug)]
pub struct Options(Mutex<Values>);

impl Default for Options {
    fn default() -> Self {
        Self(Mutex::new(Values {
            limits: [None; 2],
            send_buffer: DEFAULT_BUFFER,
            receive_buffer: DEFAULT_BUFFER,
            passes_credentials: false,
            kept: BTreeMap::new(),
        }))
    }
}

/// Options that are a flag, or a number, and change nothing for a local socket.
const KEPT: [i32; 14] = [
    libc::SO_DEBUG,
    libc::SO_REUSEADDR,
    libc::SO_REUSEPORT,
    libc::SO_KEEPALIVE,
    libc::SO_BROADCAST,
    libc::SO_OOBINLINE,
    libc::SO_DONTROUTE,
    libc::SO_TIMESTAMP,
    libc::SO_TIMESTAMPNS,
    libc::SO_PASSSEC,
    libc::SO_PRIORITY,
    libc::SO_RCVLOWAT,
    libc::SO_NO_CHECK,
    libc::SO_BUSY_POLL,
];
const NUMBERS: [i32; 3] = [libc::SO_PRIORITY, libc::SO_RCVLOWAT, libc::SO_BUSY_POLL];

fn slot(name: i32) -> Option<usize> {
    match name {
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => Some(0),
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => Some(1),
        _ => None,
    }
}

impl Options {
    pub fn lock(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SO_RCVTIMEO, SO_SNDTIMEO.
    #[must_use]
    pub fn limit(&self, direction: Direction) -> Option<Duration> {
        self.lock().limits[usize::from(direction == Direction::Send)]
    }

    /// Time limits; `None`: another option.
    pub fn set_limit(&self, name: i32, value: &[u8]) -> Option<Result<()>> {
        let slot = slot(name)?;
        Some(parse_limit(value).map(|limit| self.lock().limits[slot] = limit))
    }

    #[must_use]
    pub fn show_limit(&self, name: i32) -> Option<Vec<u8>> {
        let limit = self.lock().limits[slot(name)?].unwrap_or_default();
        let mut bytes = limit.as_secs().to_le_bytes().to_vec();
        bytes.extend(u64::from(limit.subsec_micros()).to_le_bytes());
        Some(bytes)
    }

    /// A local socket's; `ENOPROTOOPT` there is no such.
    pub fn set(&self, name: i32, value: &[u8]) -> Result<()> {
        if let Some(result) = self.set_limit(name, value) {
            return result;
        }
        let number = int(value)?;
        let mut values = self.lock();
        // The kernel doubles what is asked for, for its own bookkeeping; socket(7).
        let doubled = |least: i32| number.clamp(0, LARGEST_BUFFER).saturating_mul(2).max(least);
        match name {
            libc::SO_SNDBUF => values.send_buffer = doubled(LEAST_SEND_BUFFER),
            libc::SO_RCVBUF => values.receive_buffer = doubled(LEAST_RECEIVE_BUFFER),
            libc::SO_PASSCRED => values.passes_credentials = number != 0,
            libc::SO_LINGER => {
                let linger = value.get(..8).ok_or(Errno::EINVAL)?;
                values.kept.insert(name, linger.to_vec());
            }
            libc::SO_TYPE
            | libc::SO_DOMAIN
            | libc::SO_PROTOCOL
            | libc::SO_ERROR
            | libc::SO_ACCEPTCONN => {
                return Err(Errno::ENOPROTOOPT);
            }
            _ if KEPT.contains(&name) => {
                let kept = if NUMBERS.contains(&name) {
                    number
                } else {
                    i32::from(number != 0)
                };
                values.kept.insert(name, kept.to_le_bytes().to_vec());
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    pub fn get(&self, name: i32) -> Result<Vec<u8>> {
        if let Some(limit) = self.show_limit(name) {
            return Ok(limit);
        }
        let values = self.lock();
        let number = match name {
            libc::SO_SNDBUF => values.send_buffer,
            libc::SO_RCVBUF => values.receive_buffer,
            libc::SO_PASSCRED => i32::from(values.passes_credentials),
            libc::SO_SNDLOWAT => 1,
            libc::SO_LINGER => return Ok(values.kept.get(&name).cloned().unwrap_or(vec![0; 8])),
            libc::SO_RCVLOWAT if !values.kept.contains_key(&name) => 1,
            _ if KEPT.contains(&name) => {
                return Ok(values.kept.get(&name).cloned().unwrap_or(vec![0; 4]));
            }
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(number.to_le_bytes().to_vec())
    }
}

/// A `struct timeval`; 0 is no limit. `EDOM` microseconds out of range.
fn parse_limit(value: &[u8]) -> Result<Option<Duration>> {
    let bytes = value.get(..16).ok_or(Errno::EINVAL)?;
    let (seconds, micros) = (word(bytes, 0).cast_signed(), word(bytes, 8));
    if micros > 999_999 {
        return Err(Errno::EDOM);
    }
    // Linux: a negative time is no time at all.
    let Ok(seconds) = u64::try_from(seconds) else {
        return Ok(Some(Duration::ZERO));
    };
    let limit = Duration::new(seconds, micros as u32 * 1000);
    Ok((!limit.is_zero() && seconds < LONGEST).then_some(limit))
}

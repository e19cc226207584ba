//! What lies in a program's memory, as text. All of it is read once and bounded; what cannot be read is shown as its address.

use super::constants::{self, Reading};
use super::escape::quoted;
use super::numbers;
use crate::errno::Result;
use crate::memory::{Address, Memory, half, word};

/// Entries of an array that are shown.
const MOST: usize = 16;

pub(super) type Show = fn(Memory, Address, usize) -> Result<String>;

/// An array in brackets; `more`: there is more than is shown.
fn list(entries: Vec<String>, more: bool) -> String {
    let dots = if more { ", ..." } else { "" };
    format!("[{}{dots}]", entries.join(", "))
}

fn array(
    memory: Memory,
    at: Address,
    count: usize,
    size: usize,
    show: impl Fn(&[u8]) -> String,
) -> Result<String> {
    let shown = count.min(MOST);
    let bytes = memory.read_vec(at, shown * size)?;
    Ok(list(
        bytes.chunks_exact(size).map(show).collect(),
        shown < count,
    ))
}

pub(super) fn timespec(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 16)?;
    Ok(seconds(&bytes, "nsec"))
}

pub(super) fn timeval(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 16)?;
    Ok(seconds(&bytes, "usec"))
}

fn seconds(bytes: &[u8], part: &str) -> String {
    let (whole, rest) = (word(bytes, 0).cast_signed(), word(bytes, 8).cast_signed());
    format!("{{sec={whole}, {part}={rest}}}")
}

pub(super) fn itimerspec(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 32)?;
    let (interval, value) = (seconds(&bytes, "nsec"), seconds(&bytes[16..], "nsec"));
    Ok(format!("{{interval={interval}, value={value}}}"))
}

pub(super) fn itimerval(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 32)?;
    let (interval, value) = (seconds(&bytes, "usec"), seconds(&bytes[16..], "usec"));
    Ok(format!("{{interval={interval}, value={value}}}"))
}

/// utimensat(2)'s two.
pub(super) fn times(memory: Memory, at: Address, _: usize) -> Result<String> {
    array(memory, at, 2, 16, |bytes| seconds(bytes, "nsec"))
}

pub(super) fn stat(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 144)?;
    Ok(format!(
        "{{ino={}, mode={}, nlink={}, uid={}, gid={}, size={}}}",
        word(&bytes, 8),
        mode(half(&bytes, 24)),
        word(&bytes, 16),
        half(&bytes, 28),
        half(&bytes, 32),
        word(&bytes, 48)
    ))
}

pub(super) fn statx(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 64)?;
    Ok(format!(
        "{{ino={}, mode={}, nlink={}, uid={}, gid={}, size={}}}",
        word(&bytes, 32),
        mode(half(&bytes, 28) & 0xFFFF),
        half(&bytes, 16),
        half(&bytes, 20),
        half(&bytes, 24),
        word(&bytes, 40)
    ))
}

fn mode(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFREG => "S_IFREG|",
        libc::S_IFDIR => "S_IFDIR|",
        libc::S_IFLNK => "S_IFLNK|",
        libc::S_IFCHR => "S_IFCHR|",
        libc::S_IFBLK => "S_IFBLK|",
        libc::S_IFIFO => "S_IFIFO|",
        libc::S_IFSOCK => "S_IFSOCK|",
        _ => "",
    };
    format!("{kind}{:#05o}", mode & 0o7777).replace("0o", "0")
}

/// pipe(2), socketpair(2).
pub(super) fn two_descriptors(memory: Memory, at: Address, _: usize) -> Result<String> {
    integers(memory, at, 2)
}

fn integers(memory: Memory, at: Address, count: usize) -> Result<String> {
    array(memory, at, count, 4, |bytes| {
        half(bytes, 0).cast_signed().to_string()
    })
}

pub(super) fn ids(memory: Memory, at: Address, count: usize) -> Result<String> {
    array(memory, at, count, 4, |bytes| half(bytes, 0).to_string())
}

pub(super) fn integer(memory: Memory, at: Address, _: usize) -> Result<String> {
    integers(memory, at, 1)
}

pub(super) fn offset(memory: Memory, at: Address, _: usize) -> Result<String> {
    Ok(format!("[{}]", memory.read_u64(at)?.cast_signed()))
}

pub(super) fn wait_status(memory: Memory, at: Address, _: usize) -> Result<String> {
    let status = memory.read_u32(at)?.cast_signed();
    Ok(format!("[{}]", numbers::status(status)))
}

pub(super) fn signals(memory: Memory, at: Address, _: usize) -> Result<String> {
    Ok(numbers::set(memory.read_u64(at)?))
}

/// rt_sigaction(2)'s: handler, flags, restorer, mask.
pub(super) fn action(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 32)?;
    let handler = match word(&bytes, 0) {
        0 => "SIG_DFL".to_owned(),
        1 => "SIG_IGN".to_owned(),
        address => format!("{address:#x}"),
    };
    let mask = numbers::set(word(&bytes, 24));
    Ok(format!(
        "{{handler={handler}, mask={mask}, flags={:#x}}}",
        word(&bytes, 8)
    ))
}

pub(super) fn limit(memory: Memory, at: Address, _: usize) -> Result<String> {
    let bytes = memory.read_vec(at, 16)?;
    let shown = |value| match value {
        u64::MAX => "RLIM_INFINITY".to_owned(),
        value => value.to_string(),
    };
    Ok(format!(
        "{{cur={}, max={}}}",
        shown(word(&bytes, 0)),
        shown(word(&bytes, 8))
    ))
}

/// What poll(2) is asked.
pub(super) fn poll(memory: Memory, at: Address, count: usize) -> Result<String> {
    array(memory, at, count, 8, |bytes| {
        let events = u64::from(half(bytes, 4) & 0xFFFF);
        let events = constants::shown(Reading::Bits(constants::POLL_EVENTS), events);
        format!("{{fd={}, events={events}}}", half(bytes, 0).cast_signed())
    })
}

/// What epoll_wait(2) returns.
pub(super) fn epoll(memory: Memory, at: Address, count: usize) -> Result<String> {
    array(memory, at, count, 12, |bytes| {
        let events = u64::from(half(bytes, 0));
        let events = constants::shown(Reading::Bits(constants::EPOLL_EVENTS), events);
        let data = u64::from(half(bytes, 4)) | u64::from(half(bytes, 8)) << 32;
        format!("{{events={events}, data={data:#x}}}")
    })
}

pub(super) fn one_epoll(memory: Memory, at: Address, _: usize) -> Result<String> {
    epoll(memory, at, 1)
}

/// A `struct sockaddr` of `len` bytes.
pub(super) fn socket_address(memory: Memory, at: Address, len: usize) -> Result<String> {
    let bytes = memory.read_vec(at, len.min(128))?;
    let family = u64::from(half(&bytes, 0) & 0xFFFF);
    let rest = bytes.get(2..).unwrap_or_default();
    let port = || u16::from_be_bytes([rest[0], rest[1]]);
    Ok(match i32::try_from(family).unwrap_or(-1) {
        libc::AF_UNIX if rest.first() == Some(&0) => {
            format!("{{AF_UNIX, @{}}}", quoted(&rest[1..], 108))
        }
        libc::AF_UNIX => {
            let end = rest
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(rest.len());
            format!("{{AF_UNIX, {}}}", quoted(&rest[..end], 108))
        }
        libc::AF_INET if rest.len() >= 6 => {
            let address = std::net::Ipv4Addr::new(rest[2], rest[3], rest[4], rest[5]);
            format!("{{AF_INET, {address}:{}}}", port())
        }
        libc::AF_INET6 if rest.len() >= 22 => {
            let mut raw = [0; 16];
            raw.copy_from_slice(&rest[6..22]);
            format!(
                "{{AF_INET6, [{}]:{}}}",
                std::net::Ipv6Addr::from(raw),
                port()
            )
        }
        _ => format!(
            "{{{}}}",
            constants::shown(Reading::One(constants::FAMILIES), family)
        ),
    })
}

/// execve(2)'s arguments.
pub(super) fn strings(memory: Memory, at: Address, limit: usize) -> Result<String> {
    let mut shown = Vec::new();
    loop {
        let pointer = memory.read_u64(at.offset(8 * shown.len() as u64))?;
        if pointer == 0 || shown.len() == MOST {
            return Ok(list(shown, pointer != 0));
        }
        shown.push(string(memory, Address(pointer), limit)?);
    }
}

/// execve(2)'s environment: how much of it there is. Its contents are nobody's business.
pub(super) fn how_many(memory: Memory, at: Address, _: usize) -> Result<String> {
    let mut count = 0;
    while count < 4096 && memory.read_u64(at.offset(8 * count))? != 0 {
        count += 1;
    }
    Ok(format!("{:#x} /* {count} variables */", at.0))
}

/// A string up to its NUL.
pub(super) fn string(memory: Memory, at: Address, limit: usize) -> Result<String> {
    let mut bytes = Vec::new();
    // Never beyond a page's end in one go: the next page may not be there, and need not be.
    while bytes.len() <= limit {
        let from = at.offset(bytes.len() as u64);
        let room = (4096 - from.0 % 4096) as usize;
        let mut piece = memory.read_vec(from, room.min(limit + 1 - bytes.len()))?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            piece.truncate(end);
            bytes.extend(piece);
            return Ok(quoted(&bytes, limit));
        }
        bytes.extend(piece);
    }
    Ok(quoted(&bytes, limit))
}

/// `len` bytes, of which `limit` are shown.
pub(super) fn data(memory: Memory, at: Address, len: usize, limit: usize) -> Result<String> {
    let bytes = memory.read_vec(at, len.min(limit))?;
    let shown = quoted(&bytes, limit);
    Ok(if len > limit {
        format!("{shown}...")
    } else {
        shown
    })
}

/// The data of a vector of `count` pieces, at most `total` bytes of it.
pub(super) fn vector(
    memory: Memory,
    at: Address,
    count: usize,
    total: usize,
    limit: usize,
) -> Result<String> {
    let shown = count.min(MOST);
    let entries = memory.read_vec(at, shown * 16)?;
    let mut left = total;
    let mut pieces = Vec::new();
    for entry in entries.chunks_exact(16) {
        let len = usize::try_from(word(entry, 8)).unwrap_or(usize::MAX);
        let text = data(memory, Address(word(entry, 0)), len.min(left), limit)?;
        left -= len.min(left);
        pieces.push(format!("{{{text}, {len}}}"));
    }
    Ok(list(pieces, shown < count))
}

//! Calls of the host's kernel, in one form for each purpose: a file is read by preadv2(2) alone, asked by statx(2), opened by openat2(2). What libraries would
//! take besides (read, pread64, fstat, openat ...) is not in the jail's list, which is so much shorter.

use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags, Result};
use rustix::path::Arg;
use rustix::rand::GetRandomFlags;
use rustix::thread::Pid;

/// The offset that means the description's own position. preadv2(2).
const HERE: u64 = u64::MAX;
const NO_APPEND: ReadWriteFlags =
    ReadWriteFlags::from_bits_retain(casemate_platform::jail::NO_APPEND);
/// All that openat2(2) bears beside O_PATH.
const WITH_PATH: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// At the description's own position.
///
/// # Errors
/// As read(2).
pub fn read(fd: impl AsFd, bytes: &mut [u8]) -> Result<usize> {
    pread(fd, bytes, HERE)
}

/// # Errors
/// As pread(2).
pub fn pread(fd: impl AsFd, bytes: &mut [u8], offset: u64) -> Result<usize> {
    let mut parts = [IoSliceMut::new(bytes)];
    rustix::io::preadv2(fd, &mut parts, offset, ReadWriteFlags::empty())
}

/// At the description's own position.
///
/// # Errors
/// As write(2).
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize> {
    pwrite(fd, bytes, HERE)
}

/// # Errors
/// As pwrite(2).
pub fn pwrite(fd: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize> {
    let parts = [IoSlice::new(bytes)];
    rustix::io::pwritev2(fd, &parts, offset, ReadWriteFlags::empty())
}

/// Where a write goes, whatever the description's O_APPEND says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    AsOpened,
    Appending,
    /// Despite O_APPEND, which belongs to whoever else has the description. Before Linux 6.9, which cannot: as opened.
    InPlace,
}

/// Without `at` the description's own position, which follows.
///
/// # Errors
/// As pwritev2(2).
pub fn write_as(fd: impl AsFd, bytes: &[u8], at: Option<u64>, way: Way) -> Result<usize> {
    let write = |flags| {
        let parts = [IoSlice::new(bytes)];
        rustix::io::pwritev2(&fd, &parts, at.unwrap_or(HERE), flags)
    };
    match way {
        Way::AsOpened => write(ReadWriteFlags::empty()),
        Way::Appending => write(ReadWriteFlags::APPEND),
        Way::InPlace => match write(NO_APPEND) {
            Err(Errno::OPNOTSUPP) => write(ReadWriteFlags::empty()),
            result => result,
        },
    }
}

thread_local! {
    static OWN_NUMBER: Cell<Option<Pid>> = const { Cell::new(None) };
}

/// The host's urandom(4): it gives what getrandom(2) does.
static RANDOM: OnceLock<OwnedFd> = OnceLock::new();

/// Random bytes come from this descriptor from here on.
pub fn hold_random(device: OwnedFd) {
    let _ = RANDOM.set(device);
}

/// # Errors
/// As getrandom(2).
pub fn random(bytes: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        done += match RANDOM.get() {
            Some(device) => read(device, rest)?,
            // Outside of a sandbox: tests.
            None => rustix::rand::getrandom(rest, GetRandomFlags::empty())?,
        };
    }
    Ok(())
}

/// What a thread is to know, before the jail is closed: itself, the keys of its tables' hashes, and where to write its stack.
pub fn prepare_thread() {
    let number = rustix::thread::gettid();
    OWN_NUMBER.set(Some(number));
    casemate_platform::stacks::register(number.as_raw_nonzero().get());
    let _ = std::hash::RandomState::new();
}

/// The native number of the calling thread, if it was prepared.
#[must_use]
pub fn own_number() -> Option<Pid> {
    OWN_NUMBER.get()
}

/// How many descriptors this process may have; asked once, before the jail is closed.
#[must_use]
pub fn most_descriptors() -> Option<u64> {
    static MOST: OnceLock<Option<u64>> = OnceLock::new();
    *MOST.get_or_init(|| rustix::process::getrlimit(rustix::process::Resource::Nofile).current)
}

/// A line for whoever reads the sentry's log.
pub fn complain(line: &str) {
    let line = format!("casemate-sentry: {line}\n");
    // Nobody reads it: nothing is to be done.
    let _ = write(rustix::stdio::stderr(), line.as_bytes());
}

/// # Errors
/// As openat(2).
pub fn openat(directory: impl AsFd, path: impl Arg, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let makes = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
    let mode = if makes { mode } else { Mode::empty() };
    let flags = if flags.contains(OFlags::PATH) {
        flags & WITH_PATH
    } else {
        flags
    };
    rustix::fs::openat2(directory, path, flags, mode, ResolveFlags::empty())
}

/// # Errors
/// As fstat(2).
pub fn fstat(fd: impl AsFd) -> Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(fd, "", flags, StatxFlags::BASIC_STATS)
}

/// The first `most` bytes of a file of the host's /proc or /sys.
///
/// # Errors
/// As open(2), read(2).
pub fn read_file(path: &str, most: usize) -> Result<Vec<u8>> {
    const CHUNK: usize = 4 << 10;
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; CHUNK.min(most)];
    let mut len = 0;
    loop {
        match read(&file, &mut bytes[len..])? {
            0 => break,
            count => len += count,
        }
        if len == most {
            break;
        }
        if len == bytes.len() {
            bytes.resize((len * 2).min(most), 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// As `read_file`, of at most 1 MiB that are text.
///
/// # Errors
/// As open(2), read(2); `EILSEQ` it is none.
pub fn read_text(path: &str) -> Result<String> {
    String::from_utf8(read_file(path, 1 << 20)?).map_err(|_| rustix::io::Errno::ILSEQ)
}

/// Names and kinds in a directory of the host's /proc or /sys.
///
/// # Errors
/// As open(2), getdents64(2).
pub fn list(path: &str) -> Result<Vec<(String, rustix::fs::FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(8 << 10);
    let mut entries = Vec::new();
    let mut reader = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".")
            && let Ok(name) = std::str::from_utf8(name)
        {
            entries.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

/// Lets others run for a moment, where something is about to change and nobody will tell.
pub fn pause() {
    pause_for(Duration::from_micros(1));
}

pub fn pause_for(time: Duration) {
    let moment = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    let _ = poll(&mut [], Some(&moment));
}

/// Which of `events` a descriptor is ready for now.
#[must_use]
pub fn ready(fd: impl AsFd, events: PollFlags) -> PollFlags {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let fd = fd.as_fd();
    let mut polled = [PollFd::new(&fd, events)];
    match poll(&mut polled, Some(&now)) {
        Ok(_) => polled[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

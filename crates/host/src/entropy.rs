//! The kernel's generator of random numbers, as its administrator sees it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// RNDRESEEDCRNG, linux/random.h.
const RESEED: libc::Ioctl = 0x5207;

/// Mixes `seed` in and has the generator make a new key of it now: what is only written is used at the next turn, a minute later, and until then two copies of
/// a machine would draw the same numbers.
///
/// # Errors
/// As open(2), write(2), ioctl(2): it needs CAP_SYS_ADMIN.
pub fn reseed(seed: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open("/dev/urandom")?;
    file.write_all(seed)?;
    // SAFETY: the call takes no argument.
    if unsafe { libc::ioctl(file.as_raw_fd(), RESEED) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

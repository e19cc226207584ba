//! /proc/PID/maps and smaps: the host's, without the loader's pages. File names there are the container's, since the sentry reads them from its root.

use casemate_platform::loader;

use super::Who;
use super::process::{process, task};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;

/// Longest list: the host allows 65530 mappings by default, of at most a path each, and most have none.
const MOST: usize = 32 << 20;

pub fn maps(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    filtered(kernel, who, "maps")
}

pub fn smaps(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    filtered(kernel, who, "smaps")
}

pub fn smaps_rollup(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    filtered(kernel, who, "smaps_rollup")
}

fn filtered(kernel: &Kernel, who: Who, file: &str) -> Result<Vec<u8>> {
    if process(kernel, who)?.is_zombie() {
        return Ok(Vec::new());
    }
    let task = task(kernel, who)?;
    let path = format!("{}/{file}", task.host_tid);
    let space = task.space.lock();
    let text = read_below(&kernel.host_proc, &path, MOST).unwrap_or_default();
    let mut kept = Vec::with_capacity(text.len());
    let mut is_own = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if let Some(start) = start_of(line) {
            is_own = (loader::BASE..loader::END).contains(&start) || space.hides(start);
        }
        if !is_own {
            kept.extend_from_slice(line);
        }
    }
    Ok(kept)
}

/// The address that a mapping's line begins with; `None` for one of smaps' further lines.
fn start_of(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| *byte == b'-')?;
    let digits = std::str::from_utf8(line.get(..end)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

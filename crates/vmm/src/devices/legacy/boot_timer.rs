//! `--boot-timer`: the guest writes 123 to the first byte of the device window, and the log says how long its boot took.
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::log::{Level, Log};

/// Firecracker's `MAGIC_VALUE_SIGNAL_GUEST_BOOT_COMPLETE`.
const BOOTED: u8 = 123;

#[derive(Debug)]
pub(crate) struct BootTimer {
    started: Instant,
    started_cpu_us: i64,
}

impl BootTimer {
    pub(crate) fn start() -> BootTimer {
        BootTimer {
            started: Instant::now(),
            started_cpu_us: cpu_us(),
        }
    }

    /// Firecracker's wording: its users' scripts search for it.
    pub(crate) fn write(&self, data: &[u8], log: &Log) {
        if data == [BOOTED] {
            let wall_us = self.started.elapsed().as_micros();
            let cpu_us = cpu_us() - self.started_cpu_us;
            log.write(
                Level::Info,
                &format!(
                    "Guest-boot-time = {wall_us:>6} us {} ms, {cpu_us:>6} CPU us {} CPU ms",
                    wall_us / 1000,
                    cpu_us / 1000
                ),
            );
        }
    }
}

fn cpu_us() -> i64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec * 1_000_000 + spent.tv_nsec / 1000
}

//! Working a queue until it is empty, but not for ever.
use virtio_queue::{Queue, QueueT};

use super::{Broken, Chain};
use crate::Memory;

/// A guest whose other processors refill the queue while it is worked would otherwise hold the device's lock, and with it the API, for
/// as long as it likes. Four times the longest queue: a guest that only rings once never gets there.
const BUDGET: usize = 1024;

/// What a device did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// The driver wants an interrupt.
    pub interrupt: bool,
    /// The budget is spent, the queue is not: ring again.
    pub more: bool,
}

impl Worked {
    #[must_use]
    pub fn and(self, other: Worked) -> Worked {
        Worked {
            interrupt: self.interrupt | other.interrupt,
            more: self.more | other.more,
        }
    }
}

/// Takes chains off `queue` and gives each back with the number of bytes that `handle` wrote.
///
/// Notifications are off while it works and on when it ends (virtio 1.2 §2.7.7), so no ring is lost between the last look and the end.
pub fn drain(
    queue: &mut Queue,
    memory: &Memory,
    mut handle: impl FnMut(&Chain) -> Result<usize, Broken>,
) -> Result<Worked, Broken> {
    let mut worked = Worked::default();
    let mut left = BUDGET;
    loop {
        queue
            .disable_notification(memory)
            .map_err(|_| Broken::UsedRing)?;
        while let Some(chain) = Chain::next(queue, memory)? {
            let written = handle(&chain)?;
            worked.interrupt |= chain.finish(queue, memory, written)?;
            left -= 1;
            if left == 0 {
                return Ok(Worked {
                    more: true,
                    ..worked
                });
            }
        }
        if !queue
            .enable_notification(memory)
            .map_err(|_| Broken::AvailableRing)?
        {
            return Ok(worked);
        }
    }
}

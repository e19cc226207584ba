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

/// What became of a chain.
#[derive(Debug)]
pub enum Outcome {
    /// It goes back to the driver, with so many bytes written to it.
    Done(Chain, usize),
    /// The device keeps it, and gives it back later.
    Kept,
    /// Not now: it stays on its ring, and so does all behind it. The device looks again by itself.
    NotNow,
}

/// Takes chains off `queue` and gives each back with the number of bytes that `handle` wrote.
///
/// Notifications are off while it works and on when it ends (virtio 1.2 §2.7.7), so no ring is lost between the last look and the end.
pub fn drain(
    queue: &mut Queue,
    memory: &Memory,
    mut handle: impl FnMut(&Chain) -> Result<usize, Broken>,
) -> Result<Worked, Broken> {
    drain_with(queue, memory, |chain| {
        let written = handle(&chain)?;
        Ok(Outcome::Done(chain, written))
    })
}

/// As [`drain`], for devices that cannot answer every chain at once.
pub fn drain_with(
    queue: &mut Queue,
    memory: &Memory,
    mut handle: impl FnMut(Chain) -> Result<Outcome, Broken>,
) -> Result<Worked, Broken> {
    let mut worked = Worked::default();
    let mut left = BUDGET;
    loop {
        queue
            .disable_notification(memory)
            .map_err(|_| Broken::UsedRing)?;
        while let Some(chain) = Chain::next(queue, memory)? {
            match handle(chain)? {
                Outcome::Done(chain, written) => {
                    worked.interrupt |= chain.finish(queue, memory, written)?;
                }
                Outcome::Kept => {}
                Outcome::NotNow => {
                    put_back(queue, 1);
                    return Ok(worked);
                }
            }
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

/// Puts the last `count` chains that were taken off `queue` back onto it.
pub fn put_back(queue: &mut Queue, count: u16) {
    queue.set_next_avail(queue.next_avail().wrapping_sub(count));
}

//! The way of requests from the ring to the disk and back, with both engines.
use std::collections::HashMap;

use virtio_queue::Queue;

use super::Block;
use super::request::{Request, Status, Transfer};
use crate::Memory;
use crate::raw::Transfers;
use crate::virtio::{Broken, Chain, Outcome, Worked, drain_with};

/// Requests whose transfers are under way, or have ended and are not told yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    under_way: HashMap<u64, (Chain, Request, Transfer)>,
    ended: Vec<(u64, i32)>,
    next_number: u64,
}

impl Pending {
    /// For a driver that starts again and does not want its answers.
    pub(super) fn forget(&mut self) {
        self.under_way.clear();
        self.ended.clear();
    }
}

impl Block {
    pub(super) fn turn(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let Some(queue) = queues.first_mut() else {
            return Ok(Worked::default());
        };
        let told = self.finish_ended(queue, memory)?;
        if self.limiter.is_closed() {
            return Ok(told);
        }
        let worked = drain_with(queue, memory, |chain| self.serve(chain, memory));
        self.submit();
        // Transfers from and to the page cache end within the submission.
        Ok(told.and(worked?).and(self.finish_ended(queue, memory)?))
    }

    fn serve(&mut self, chain: Chain, memory: &Memory) -> Result<Outcome, Broken> {
        let Some(request) = Request::read(&chain, memory)? else {
            // No room for a status: it goes back empty, which drivers read as failed.
            self.counts.invalid_reqs_count += 1;
            return Ok(Outcome::Done(chain, 0));
        };
        if self.transfers.as_ref().is_some_and(Transfers::is_full) {
            self.counts.io_engine_throttled_events += 1;
            return Ok(Outcome::NotNow);
        }
        if !self.limiter.take(request.nr_bytes()) {
            return Ok(Outcome::NotNow);
        }
        let transfer = match request.check(&self.disk, self.has_flush) {
            Ok(transfer) => transfer,
            Err(status) => {
                self.counts.invalid_reqs_count += 1;
                let written = request.answer(&chain, memory, status, 0)?;
                return Ok(Outcome::Done(chain, written));
            }
        };
        match &mut self.transfers {
            Some(transfers) if transfer.is_slow() => {
                let number = self.pending.next_number;
                self.pending.next_number += 1;
                transfer.begin(transfers, &self.disk, &chain, number)?;
                self.pending
                    .under_way
                    .insert(number, (chain, request, transfer));
                Ok(Outcome::Kept)
            }
            _ => {
                let (status, moved) = transfer.run(&self.disk, &chain, memory)?;
                self.count(transfer, status);
                let written = request.answer(&chain, memory, status, moved)?;
                Ok(Outcome::Done(chain, written))
            }
        }
    }

    fn count(&mut self, transfer: Transfer, status: Status) {
        let counts = &mut self.counts;
        match transfer {
            _ if status != Status::Ok => counts.execute_fails += 1,
            Transfer::Read { length, .. } => {
                counts.read_count += 1;
                counts.read_bytes += length as u64;
            }
            Transfer::Write { length, .. } => {
                counts.write_count += 1;
                counts.write_bytes += length as u64;
            }
            Transfer::Flush => counts.flush_count += 1,
            Transfer::Identify => {}
        }
    }

    fn submit(&mut self) {
        let Some(transfers) = &mut self.transfers else {
            return;
        };
        // A kernel short of memory: what was not handed over is handed over with the next request, or when somebody waits.
        let _ = transfers.submit();
        self.pending.ended.extend(transfers.take_ended());
    }

    /// Tells the driver of every transfer that has ended.
    pub(super) fn finish_ended(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        let mut worked = Worked::default();
        if let Some(transfers) = &mut self.transfers {
            self.pending.ended.extend(transfers.take_ended());
        }
        for (number, result) in std::mem::take(&mut self.pending.ended) {
            let Some((chain, request, transfer)) = self.pending.under_way.remove(&number) else {
                continue;
            };
            let (status, moved) = match transfer.judge(result) {
                Some(judged) => judged,
                // Some bytes and no error: an end of file, or a signal. The rest is done here, and says which.
                None => transfer.run(&self.disk, &chain, memory)?,
            };
            self.count(transfer, status);
            let written = request.answer(&chain, memory, status, moved)?;
            worked.interrupt |= chain.finish(queue, memory, written)?;
        }
        Ok(worked)
    }

    pub(super) fn wait_for_all(&mut self) {
        let Some(transfers) = &mut self.transfers else {
            return;
        };
        while !transfers.is_idle() {
            if transfers.wait().is_err() {
                return;
            }
            self.pending.ended.extend(transfers.take_ended());
        }
    }
}

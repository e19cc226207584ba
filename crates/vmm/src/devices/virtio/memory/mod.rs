//! Memory that comes and goes while the guest runs (virtio 1.2 §5.15).
//!
//! The guest plugs and unplugs blocks, up to the size that the API asks for. KVM maps whole slots: one is there as soon as one of its
//! blocks is plugged. A block that is unplugged loses its content.
mod blocks;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use virtio_queue::Queue;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use self::blocks::Blocks;
use super::{Broken, Chain, Device, Worked, drain};
use crate::devices::state::{DeviceState, StateError};
use crate::raw::MappedVm;
use crate::{Memory, raw};

/// VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE (§5.15.3).
const UNPLUGGED_INACCESSIBLE: u64 = 1 << 1;
// Requests and answers of §5.15.6.
const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;
const ACK: u16 = 0;
const NACK: u16 = 1;
const ERROR: u16 = 3;
const REQUEST: usize = 24;
const ANSWER: usize = 10;
/// Version of the saved state: requested size, plugged blocks.
const LAYOUT: u16 = 1;

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    activate_fails: u64,
    queue_event_fails: u64,
    queue_event_count: u64,
    plug_count: u64,
    plug_bytes: u64,
    plug_fails: u64,
    unplug_count: u64,
    unplug_bytes: u64,
    unplug_fails: u64,
    unplug_all_count: u64,
    unplug_all_fails: u64,
    state_count: u64,
    state_fails: u64,
    unplug_discard_fails: u64,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub region: u64,
    pub slot: u64,
    pub block: u64,
}

/// What a copy needs.
#[derive(Serialize, Deserialize)]
struct Content {
    requested: u64,
    plugged: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub struct Hotplug {
    sizes: Sizes,
    address: u64,
    requested: u64,
    blocks: Blocks,
    vm: Option<Arc<MappedVm>>,
    counts: Counts,
}

impl Hotplug {
    /// `sizes` are checked: slots are whole blocks, the region whole slots.
    #[must_use]
    pub fn new(sizes: Sizes) -> Hotplug {
        Hotplug {
            sizes,
            address: 0,
            requested: 0,
            blocks: Blocks::new(sizes.region / sizes.block),
            vm: None,
            counts: Counts::default(),
        }
    }

    pub fn request(&mut self, bytes: u64) {
        self.requested = bytes;
    }

    #[must_use]
    pub fn requested(&self) -> u64 {
        self.requested
    }

    #[must_use]
    pub fn plugged(&self) -> u64 {
        self.blocks.nr_plugged() * self.sizes.block
    }

    fn serve(&mut self, chain: &Chain, memory: &Memory) -> Result<usize, Broken> {
        let mut request = [0; REQUEST];
        let is_whole = chain.read(memory, 0, &mut request)? == REQUEST;
        let [k0, k1, _, _, _, _, _, _, rest @ ..] = request;
        let [a0, a1, a2, a3, a4, a5, a6, a7, n0, n1, ..] = rest;
        let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let count = u16::from_le_bytes([n0, n1]);
        let (kind, state) = match u16::from_le_bytes([k0, k1]) {
            _ if !is_whole => (ERROR, 0),
            PLUG => (self.plug(address, count), 0),
            UNPLUG => (self.unplug(address, count, memory), 0),
            UNPLUG_ALL => (self.unplug_all(memory), 0),
            STATE => self.state(address, count),
            _ => (ERROR, 0),
        };
        let mut answer = [0; ANSWER];
        answer[..2].copy_from_slice(&kind.to_le_bytes());
        answer[8..].copy_from_slice(&state.to_le_bytes());
        chain.write(memory, 0, &answer)
    }

    /// The blocks that a request means, if they lie in the region.
    fn range(&self, address: u64, count: u16) -> Option<std::ops::Range<u64>> {
        let offset = address.checked_sub(self.address)?;
        if count == 0 || !offset.is_multiple_of(self.sizes.block) {
            return None;
        }
        let first = offset / self.sizes.block;
        let end = first.checked_add(count.into())?;
        (end <= self.sizes.region / self.sizes.block).then_some(first..end)
    }

    fn plug(&mut self, address: u64, count: u16) -> u16 {
        self.counts.plug_count += 1;
        let bytes = u64::from(count) * self.sizes.block;
        let range = self.range(address, count);
        let Some(range) = range.filter(|range| self.blocks.all_are(range.clone(), false)) else {
            self.counts.plug_fails += 1;
            return ERROR;
        };
        // §5.15.6.2: more than was asked for is refused; so is what KVM has no slot for.
        if self.plugged() + bytes > self.requested || !self.show(&range) {
            self.counts.plug_fails += 1;
            return NACK;
        }
        self.blocks.set(range, true);
        self.counts.plug_bytes += bytes;
        ACK
    }

    fn unplug(&mut self, address: u64, count: u16, memory: &Memory) -> u16 {
        self.counts.unplug_count += 1;
        let range = self.range(address, count);
        let Some(range) = range.filter(|range| self.blocks.all_are(range.clone(), true)) else {
            self.counts.unplug_fails += 1;
            return ERROR;
        };
        self.counts.unplug_bytes += u64::from(count) * self.sizes.block;
        self.blocks.set(range.clone(), false);
        self.discard(&range, memory);
        self.hide(&range);
        ACK
    }

    fn unplug_all(&mut self, memory: &Memory) -> u16 {
        self.counts.unplug_all_count += 1;
        let all = 0..self.sizes.region / self.sizes.block;
        self.blocks.set(all.clone(), false);
        self.discard(&all, memory);
        self.hide(&all);
        ACK
    }

    fn state(&mut self, address: u64, count: u16) -> (u16, u16) {
        self.counts.state_count += 1;
        let Some(range) = self.range(address, count) else {
            self.counts.state_fails += 1;
            return (ERROR, 0);
        };
        let state = if self.blocks.all_are(range.clone(), true) {
            0
        } else if self.blocks.all_are(range, false) {
            1
        } else {
            2
        };
        (ACK, state)
    }

    /// The slots that `range` touches.
    fn slots(&self, range: &std::ops::Range<u64>) -> std::ops::Range<u64> {
        let (start, end) = (range.start * self.sizes.block, range.end * self.sizes.block);
        start / self.sizes.slot..end.div_ceil(self.sizes.slot)
    }

    fn blocks_of(&self, slot: u64) -> std::ops::Range<u64> {
        let per_slot = self.sizes.slot / self.sizes.block;
        slot * per_slot..(slot + 1) * per_slot
    }

    /// Lets KVM map the slots that `range` touches and that have nothing plugged yet.
    fn show(&self, range: &std::ops::Range<u64>) -> bool {
        let Some(vm) = &self.vm else { return true };
        let is_empty = |slot: &u64| self.blocks.all_are(self.blocks_of(*slot), false);
        let is_shown = |slot| {
            vm.show(slot, self.address + slot * self.sizes.slot, self.sizes.slot)
                .is_ok()
        };
        self.slots(range).filter(is_empty).all(is_shown)
    }

    /// Takes slots of `range` in which nothing is plugged any more from the guest.
    fn hide(&self, range: &std::ops::Range<u64>) {
        let Some(vm) = &self.vm else { return };
        let is_empty = |slot: &u64| self.blocks.all_are(self.blocks_of(*slot), false);
        for slot in self.slots(range).filter(is_empty) {
            // Failing leaves the guest memory that it promised not to use, and that holds nothing.
            let _ = vm.hide(slot);
        }
    }

    fn discard(&mut self, range: &std::ops::Range<u64>, memory: &Memory) {
        let start = GuestAddress(self.address + range.start * self.sizes.block);
        let length = usize::try_from((range.end - range.start) * self.sizes.block);
        let pages = length
            .ok()
            .and_then(|length| memory.get_slice(start, length).ok());
        if pages.is_none_or(|pages| raw::discard(&pages).is_err()) {
            self.counts.unplug_discard_fails += 1;
        }
    }
}

impl Device for Hotplug {
    fn kind(&self) -> u32 {
        24
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256]
    }

    fn features(&self) -> u64 {
        UNPLUGGED_INACCESSIBLE
    }

    /// §5.15.4: block size, node, address, region size, usable size, plugged, requested.
    fn config(&self) -> Vec<u8> {
        [
            self.sizes.block,
            0,
            self.address,
            self.sizes.region,
            self.sizes.region,
            self.plugged(),
            self.requested,
        ]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect()
    }

    fn hotplug(&self) -> Option<u64> {
        Some(self.sizes.region)
    }

    fn place(&mut self, address: u64) {
        self.address = address;
    }

    fn attach_vm(&mut self, vm: &Arc<MappedVm>) {
        self.vm = Some(Arc::clone(vm));
    }

    fn activate(&mut self, _features: u64) {}

    /// What is plugged stays (§5.15.5.2): a new driver reads it from the configuration, or unplugs all.
    fn reset(&mut self) {}

    fn work(
        &mut self,
        _index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        self.counts.queue_event_count += 1;
        let Some(queue) = queues.first_mut() else {
            return Ok(Worked::default());
        };
        drain(queue, memory, |chain| self.serve(chain, memory))
    }

    fn save(&self) -> DeviceState {
        let content = Content {
            requested: self.requested,
            plugged: self.blocks.runs(),
        };
        DeviceState::new(self.kind(), LAYOUT, &content)
    }

    fn restore(&mut self, state: &DeviceState, _memory: &Memory) -> Result<(), StateError> {
        let content: Content = state.read(self.kind(), LAYOUT)?;
        let nr_blocks = self.sizes.region / self.sizes.block;
        if content.requested > self.sizes.region {
            return Err(StateError::Unfit("the size of the hotplug memory"));
        }
        for (start, end) in content.plugged {
            if start >= end || end > nr_blocks || !self.show(&(start..end)) {
                return Err(StateError::Unfit("a block of the hotplug memory"));
            }
            self.blocks.set(start..end, true);
        }
        self.requested = content.requested;
        Ok(())
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        serde_json::to_value(std::mem::take(&mut self.counts)).ok()
    }
}

//! What the guest's driver says about its memory (virtio 1.2 §5.5.6.4): pairs of a tag (2 bytes) and a value (8 bytes).
use serde::Serialize;

use crate::Memory;
use crate::virtio::{Broken, Chain};

/// The API's names. A value the guest never sent is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics(std::collections::BTreeMap<&'static str, u64>);

/// By tag; numbers 10 to 15 are those of Linux 6.12.
const NAMES: [&str; 16] = [
    "swap_in",
    "swap_out",
    "major_faults",
    "minor_faults",
    "free_memory",
    "total_memory",
    "available_memory",
    "disk_caches",
    "hugetlb_allocations",
    "hugetlb_failures",
    "oom_kill",
    "alloc_stall",
    "async_scan",
    "direct_scan",
    "async_reclaim",
    "direct_reclaim",
];
const PAIR: usize = 10;

impl Statistics {
    /// Takes over what `chain` holds; unknown tags are for later versions and left out.
    pub(super) fn read(&mut self, chain: &Chain, memory: &Memory) -> Result<(), Broken> {
        let mut bytes = [0; PAIR * NAMES.len()];
        let length = chain.read(memory, 0, &mut bytes)?;
        for pair in bytes.get(..length).unwrap_or_default().chunks_exact(PAIR) {
            let [t0, t1, value @ ..] = pair else { continue };
            let tag = usize::from(u16::from_le_bytes([*t0, *t1]));
            if let (Some(name), Ok(value)) = (NAMES.get(tag), value.try_into()) {
                self.0.insert(name, u64::from_le_bytes(value));
            }
        }
        Ok(())
    }
}

//! What is said of a frame before its Ethernet header (virtio 1.2 §5.1.6), and the little of Ethernet that is looked at.
pub(super) const HEADER: usize = crate::raw::TAP_HEADER;
/// The largest frame of an interface with segmentation offload: 64 KiB of IP and an Ethernet header with a VLAN tag.
pub(super) const MAX_FRAME: usize = HEADER + 18 + 65_536;
/// Destination, source, type.
pub(super) const ETHERNET: usize = 14;

/// Where the header counts the buffers that a received frame takes.
pub(super) const NUM_BUFFERS: std::ops::Range<usize> = 10..12;
pub(super) const SOURCE: std::ops::Range<usize> = 6..12;

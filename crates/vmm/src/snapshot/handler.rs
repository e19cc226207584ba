//! Memory that another process serves page by page, by Firecracker's protocol: one message on its Unix socket, a JSON list of the regions
//! with the userfaultfd beside it.
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::memory::whole;
use crate::Memory;
use crate::raw::FaultFd;

const PAGE: u64 = 4096;

/// Firecracker's `GuestRegionUffdMapping`. The last field's name is wrong there too, and kept for its users.
#[derive(Serialize)]
struct Region {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    page_size: u64,
    page_size_kib: u64,
}

/// Registers `memory` and hands it to the handler that listens on `path`.
pub(crate) fn hand_over(memory: &Memory, path: &Path) -> io::Result<FaultFd> {
    let socket = crate::api::socket::connect_at_once(path)?;
    socket.set_nonblocking(false)?;
    let faults = FaultFd::for_missing_pages()?;
    let mut regions = Vec::new();
    let mut offset = 0;
    for region in memory.iter() {
        let slice = whole(region)?;
        faults.serve_missing(&slice)?;
        regions.push(Region {
            base_host_virt_addr: slice.ptr_guard().as_ptr() as u64,
            size: region.len(),
            offset,
            page_size: PAGE,
            page_size_kib: PAGE,
        });
        offset += region.len();
    }
    let message = serde_json::to_vec(&regions).map_err(io::Error::other)?;
    let fds = [faults.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(
        &socket,
        &[IoSlice::new(&message)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent == message.len() {
        Ok(faults)
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

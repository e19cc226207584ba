//! The host's directories by way of the link, for a hypervisor that has none of its own: requests of this guest's kernel (FUSE) go to the host's server as they
//! are, and its answers come back. This process understands none of them, and touches no file there: it would wait for itself.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use casemate_guest_protocol::{
    Allowance, Bytes, FILES, Link, LinkError, MAX_DATA, MAX_FILE_REQUEST, Receipt, ToHost,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::error::{About, Error, Result};

#[derive(Debug)]
pub(crate) struct Files {
    device: File,
    buffer: Vec<u8>,
    pub(crate) allowance: Allowance,
    receipt: Receipt,
    received: Vec<u8>,
}

impl Files {
    /// Mounts them at `place`.
    pub(crate) fn mount(place: &str) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty()).about("/dev/fuse")?;
        // Whoever may what is for this kernel to check: it knows a program's groups and capabilities.
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).map_err(|_| Error::new("options", 0))?;
        let guarded = MountFlags::NOSUID | MountFlags::NODEV;
        mount("share", place, "fuse", guarded, Some(options.as_c_str()))
            .about("mount the host's directories")?;
        Ok(Self {
            device: device.into(),
            // The kernel wants room for the largest write it may make.
            buffer: vec![0; 2 * MAX_FILE_REQUEST],
            allowance: Allowance::default(),
            receipt: Receipt::default(),
            received: Vec::new(),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Whether there is room for whatever comes next.
    pub(crate) fn may_ask(&self) -> bool {
        self.allowance.left() >= MAX_FILE_REQUEST
    }

    /// Passes on what the kernel asks.
    pub(crate) fn ask(&mut self, link: &mut Link) -> std::result::Result<(), LinkError> {
        while self.may_ask() && !link.is_congested() {
            // Nothing to be had, or a request that was taken back meanwhile.
            let Ok(count) = self.device.read(&mut self.buffer) else {
                break;
            };
            self.allowance.spend(count);
            for part in self.buffer[..count].chunks(MAX_DATA) {
                let bytes = Bytes(part.to_vec());
                link.send(&ToHost::Files { bytes })?;
            }
        }
        Ok(())
    }

    /// Bytes of the server's answers.
    pub(crate) fn answer(
        &mut self,
        bytes: &[u8],
        link: &mut Link,
    ) -> std::result::Result<(), LinkError> {
        if !self.receipt.receive(bytes.len()) {
            return Err(LinkError::Protocol("more data than was allowed".into()));
        }
        self.received.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(head) = self.received[start..].first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize;
            if length < 4 {
                return Err(LinkError::Protocol(format!("an answer of {length} bytes")));
            }
            let Some(answer) = self.received.get(start..start + length) else {
                break;
            };
            match rustix::io::write(&self.device, answer) {
                // Who asked has been killed.
                Ok(_) | Err(Errno::NOENT | Errno::INTR) => {}
                Err(errno) => return Err(LinkError::Io(errno)),
            }
            start += length;
        }
        self.received.drain(..start);
        if let Some(bytes) = self.receipt.take(bytes.len()) {
            link.send(&ToHost::Credit {
                process: 0,
                stream: FILES,
                bytes,
            })?;
        }
        Ok(())
    }
}

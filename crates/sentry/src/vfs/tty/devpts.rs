//! /dev/pts: the directory of slaves, in the place of the host's, whose numbers are other terminals. devpts.rst.

use std::sync::Arc;

use super::control;
use super::master::Master;
use super::slave::Slave;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::syscalls::Cx;
use crate::syscalls::arguments::Flags;
use crate::vfs::attributes::{Attributes, device_number};
use crate::vfs::description::{Description, O_ACCMODE};
use crate::vfs::file::{Entry, File};
use crate::vfs::place::Place;

pub const DEVPTS_MAGIC: i64 = 0x1CD1;
const SLAVE_MAJOR: u32 = 136;
const ROOT_INODE: u64 = 1;
const PTMX_INODE: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtsNode {
    Root,
    Ptmx,
    Slave(u32),
}

pub(super) fn slave_attributes(device: u64, number: u32, uid: u32, gid: u32) -> Attributes {
    Attributes {
        ino: u64::from(number) + 3,
        rdev: device_number(SLAVE_MAJOR, number),
        ..node(device, libc::S_IFCHR | 0o620, uid, gid)
    }
}

/// All are as old as the moment: the times of terminals tell when somebody typed (tty(4)), which is nobody's business here.
fn node(dev: u64, mode: u32, uid: u32, gid: u32) -> Attributes {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Attributes {
        dev,
        mode,
        uid,
        gid,
        nlink: 1,
        blksize: 1024,
        times: [(now.tv_sec, now.tv_nsec as u32); 4],
        ..Attributes::default()
    }
}

impl PtsNode {
    pub fn attributes(self, kernel: &Kernel) -> Result<Attributes> {
        let device = kernel.terminals.device;
        match self {
            Self::Root => Ok(Attributes {
                ino: ROOT_INODE,
                nlink: 2,
                ..node(device, libc::S_IFDIR | 0o755, 0, 0)
            }),
            Self::Ptmx => Ok(Attributes {
                ino: PTMX_INODE,
                rdev: device_number(5, 2),
                ..node(device, libc::S_IFCHR | 0o666, 0, 0)
            }),
            Self::Slave(number) => {
                let tty = kernel.terminals.get(number).ok_or(Errno::ENOENT)?;
                Ok(tty.attributes())
            }
        }
    }

    pub fn lookup(self, kernel: &Kernel, name: &[u8]) -> Result<Self> {
        match (self, name) {
            (Self::Root, b"ptmx") => Ok(Self::Ptmx),
            (Self::Root, _) => {
                let number = std::str::from_utf8(name)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let number: u32 = number.ok_or(Errno::ENOENT)?;
                // "00" and "+0" are no names of 0.
                if number.to_string().as_bytes() != name || kernel.terminals.get(number).is_none() {
                    return Err(Errno::ENOENT);
                }
                Ok(Self::Slave(number))
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    #[must_use]
    pub fn path(self) -> Vec<u8> {
        match self {
            Self::Root => b"/dev/pts".to_vec(),
            Self::Ptmx => b"/dev/pts/ptmx".to_vec(),
            Self::Slave(number) => format!("/dev/pts/{number}").into_bytes(),
        }
    }

    pub fn open(self, cx: &mut Cx<'_>, flags: Flags) -> Result<Arc<dyn File>> {
        let place = Place::Pts(self);
        let attributes = self.attributes(cx.kernel)?;
        match self {
            Self::Root => Ok(Arc::new(PtsDirectory { attributes })),
            Self::Ptmx => Ok(Master::open(cx, place, attributes)?),
            Self::Slave(number) => open_slave(cx, number, place, None, flags),
        }
    }
}

fn open_slave(
    cx: &mut Cx<'_>,
    number: u32,
    place: Place,
    attributes: Option<Attributes>,
    flags: Flags,
) -> Result<Arc<dyn File>> {
    let tty = cx.kernel.terminals.get(number).ok_or(Errno::EIO)?;
    let is_admin = cx
        .task()?
        .credentials
        .has(crate::kernel::credentials::CAP_SYS_ADMIN);
    if tty.lock().is_exclusive && !is_admin {
        return Err(Errno::EBUSY);
    }
    let file = Slave::open(&tty, place, attributes)?;
    let may_read = flags.0 & O_ACCMODE.cast_unsigned() != libc::O_WRONLY.cast_unsigned();
    if may_read && !flags.has(libc::O_NOCTTY) {
        control::acquire_by_open(cx, &tty)?;
    }
    Ok(file)
}

/// A terminal's device node outside of /dev/pts: /dev/tty, /dev/console, /dev/ptmx, or the console's own node bound there. `None`: it is none of these.
pub fn open_node(
    cx: &mut Cx<'_>,
    place: &Place,
    attributes: Attributes,
    flags: Flags,
) -> Option<Result<Arc<dyn File>>> {
    let is = |major, minor| attributes.rdev == device_number(major, minor);
    if is(5, 0) {
        return Some(open_controlling(cx, place, attributes));
    }
    if is(5, 2) {
        return Some(Master::open(cx, place.clone(), attributes).map(|file| file as Arc<dyn File>));
    }
    let major = rustix::fs::major(attributes.rdev);
    if !is(5, 1) && major != SLAVE_MAJOR {
        return None;
    }
    // A node of the host's devpts that is seen elsewhere can only be that of the sandbox's own terminal.
    let console = cx.kernel.terminals.console.as_ref().map(|tty| tty.number);
    let Some(number) = console.filter(|number| is(5, 1) || is(SLAVE_MAJOR, *number)) else {
        return Some(Err(Errno::EIO));
    };
    // tty_open(): the console does not become a controlling terminal by being opened.
    let flags = if is(5, 1) {
        Flags(flags.0 | libc::O_NOCTTY.cast_unsigned())
    } else {
        flags
    };
    Some(open_slave(
        cx,
        number,
        place.clone(),
        Some(attributes),
        flags,
    ))
}

fn open_controlling(cx: &Cx<'_>, place: &Place, attributes: Attributes) -> Result<Arc<dyn File>> {
    let tty = cx.process()?.terminal.clone().ok_or(Errno::ENXIO)?;
    Ok(Slave::open(&tty, place.clone(), Some(attributes))?)
}

#[derive(Debug)]
struct PtsDirectory {
    attributes: Attributes,
}

impl File for PtsDirectory {
    fn read(
        &self,
        _description: &Description,
        _to: &mut crate::memory::Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn place(&self) -> Option<&Place> {
        Some(&Place::Pts(PtsNode::Root))
    }

    fn seek(&self, description: &Description, offset: i64, whence: i32) -> Result<u64> {
        let mut position = description.position();
        let base = if whence == libc::SEEK_CUR {
            *position
        } else {
            0
        };
        if whence != libc::SEEK_SET && whence != libc::SEEK_CUR {
            return Err(Errno::EINVAL);
        }
        *position = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
        Ok(*position)
    }

    /// Positions: 0 and 1 are the dots, 2 is ptmx, N + 3 the slave N.
    fn entries(
        &self,
        cx: &mut Cx<'_>,
        description: &Description,
        room: usize,
    ) -> Result<Vec<Entry>> {
        let mut all = vec![
            (0, ROOT_INODE, libc::DT_DIR, b".".to_vec()),
            (1, ROOT_INODE, libc::DT_DIR, b"..".to_vec()),
            (2, PTMX_INODE, libc::DT_CHR, b"ptmx".to_vec()),
        ];
        for number in cx.kernel.terminals.numbers() {
            let at = u64::from(number) + 3;
            all.push((at, at, libc::DT_CHR, number.to_string().into_bytes()));
        }
        let mut position = description.position();
        let mut left = room;
        let mut entries = Vec::new();
        for (at, ino, kind, name) in all.into_iter().filter(|entry| entry.0 >= *position) {
            let size = 24 + name.len();
            if size > left {
                break;
            }
            left -= size;
            entries.push(Entry {
                ino,
                next: at as i64 + 1,
                kind,
                name,
            });
        }
        if let Some(last) = entries.last() {
            *position = last.next as u64;
        }
        Ok(entries)
    }

    fn is_stream(&self) -> bool {
        false
    }
}

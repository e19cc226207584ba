//! A file's attributes and their two layouts: `struct stat` and `struct statx`.

use rustix::fs::{Statx, StatxFlags};

/// Attributes, in the terms of statx(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    pub blocks: u64,
    /// Access, modification, change, birth: seconds and nanoseconds.
    pub times: [(i64, u32); 4],
    pub mount: u64,
    pub attributes: u64,
    pub attributes_mask: u64,
    pub has_birth: bool,
}

#[must_use]
pub fn device_number(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

impl Attributes {
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    #[must_use]
    pub fn from_host(raw: &Statx) -> Self {
        let dev = device_number(raw.stx_dev_major, raw.stx_dev_minor);
        super::windows::looked_at((dev, raw.stx_ino));
        Self {
            dev,
            ino: raw.stx_ino,
            mode: u32::from(raw.stx_mode),
            nlink: raw.stx_nlink,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            rdev: device_number(raw.stx_rdev_major, raw.stx_rdev_minor),
            size: raw.stx_size,
            blksize: raw.stx_blksize,
            blocks: raw.stx_blocks,
            times: [raw.stx_atime, raw.stx_mtime, raw.stx_ctime, raw.stx_btime]
                .map(|time| (time.tv_sec, time.tv_nsec)),
            mount: raw.stx_mnt_id,
            attributes: raw.stx_attributes.bits(),
            attributes_mask: raw.stx_attributes_mask.bits(),
            has_birth: raw.stx_mask & StatxFlags::BTIME.bits() != 0,
        }
    }

    /// `struct stat` of x86-64, 144 bytes. arch/x86/include/uapi/asm/stat.h.
    #[must_use]
    pub fn to_stat(&self) -> [u8; 144] {
        let mut bytes = [0; 144];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.dev.to_le_bytes());
        put(8, &self.ino.to_le_bytes());
        put(16, &u64::from(self.nlink).to_le_bytes());
        put(24, &self.mode.to_le_bytes());
        put(28, &self.uid.to_le_bytes());
        put(32, &self.gid.to_le_bytes());
        put(40, &self.rdev.to_le_bytes());
        put(48, &self.size.to_le_bytes());
        put(56, &u64::from(self.blksize).to_le_bytes());
        put(64, &self.blocks.to_le_bytes());
        for (index, (seconds, nanoseconds)) in self.times.iter().take(3).enumerate() {
            put(72 + 16 * index, &seconds.to_le_bytes());
            put(80 + 16 * index, &u64::from(*nanoseconds).to_le_bytes());
        }
        bytes
    }

    /// `struct statx`, 256 bytes. include/uapi/linux/stat.h.
    #[must_use]
    pub fn to_statx(&self) -> [u8; 256] {
        const BASIC: u32 = 0x7FF;
        const BIRTH: u32 = 0x800;
        const MOUNT: u32 = 0x1000;
        let mut bytes = [0; 256];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let mask = BASIC | MOUNT | if self.has_birth { BIRTH } else { 0 };
        put(0, &mask.to_le_bytes());
        put(4, &self.blksize.to_le_bytes());
        put(8, &self.attributes.to_le_bytes());
        put(16, &self.nlink.to_le_bytes());
        put(20, &self.uid.to_le_bytes());
        put(24, &self.gid.to_le_bytes());
        put(28, &(self.mode as u16).to_le_bytes());
        put(32, &self.ino.to_le_bytes());
        put(40, &self.size.to_le_bytes());
        put(48, &self.blocks.to_le_bytes());
        put(56, &self.attributes_mask.to_le_bytes());
        // On disk in the order access, birth, change, modification.
        for (place, index) in [0, 3, 2, 1].into_iter().enumerate() {
            let (seconds, nanoseconds) = self.times[index];
            put(64 + 16 * place, &seconds.to_le_bytes());
            put(72 + 16 * place, &nanoseconds.to_le_bytes());
        }
        for (at, device) in [(128, self.rdev), (136, self.dev)] {
            put(at, &rustix::fs::major(device).to_le_bytes());
            put(at + 4, &rustix::fs::minor(device).to_le_bytes());
        }
        put(144, &self.mount.to_le_bytes());
        bytes
    }
}

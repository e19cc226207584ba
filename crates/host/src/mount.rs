//! The mount calls that work on descriptors: fsopen(2), open_tree(2), mount_setattr(2), move_mount(2).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check_long;

pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
pub const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

const AT_RECURSIVE: libc::c_uint = 0x8000;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// Changes the attributes of the mount that `fd` is the root of.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_attributes(
    fd: BorrowedFd<'_>,
    attributes: MountAttr,
    recursive: bool,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant C string; `attributes` is repr(C) and its size is passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    check_long(result).map(drop)
}

fn new_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = i32::try_from(check_long(result)?)
        .map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A detached copy of the mount at `fd` (a bind mount to be).
///
/// # Errors
/// As open_tree(2).
pub fn clone_tree(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    let flags = 1
        | libc::O_CLOEXEC as libc::c_uint
        | libc::AT_EMPTY_PATH as libc::c_uint
        | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant C string.
    new_fd(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) })
}

/// A file system being configured.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// # Errors
    /// As fsopen(2): `ENODEV` for a type the kernel has not.
    pub fn open(fstype: &CStr) -> io::Result<Self> {
        // SAFETY: `fstype` is a C string; FSOPEN_CLOEXEC is 1.
        new_fd(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), 1) }).map(Self)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> io::Result<()> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both are null or C strings that live through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        check_long(result).map(drop)
    }

    /// # Errors
    /// As fsconfig(2) `FSCONFIG_SET_FLAG`.
    pub fn set_flag(&self, key: &CStr) -> io::Result<()> {
        self.config(0, Some(key), None)
    }

    /// # Errors
    /// As fsconfig(2) `FSCONFIG_SET_STRING`.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        self.config(1, Some(key), Some(value))
    }

    /// Creates the file system and returns its detached mount.
    ///
    /// # Errors
    /// As fsconfig(2) `FSCONFIG_CMD_CREATE` and fsmount(2).
    pub fn mount(&self, attributes: u64) -> io::Result<OwnedFd> {
        self.config(6, None, None)?;
        // SAFETY: no memory is passed; FSMOUNT_CLOEXEC is 1.
        new_fd(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), 1, attributes) })
    }

    /// The kernel's own words on what went wrong, if it has any.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let mut buffer = [0u8; 512];
        while let Ok(length) = rustix::io::read(self.0.as_fd(), &mut buffer) {
            if length == 0 || text.len() > 2048 {
                break;
            }
            let line = String::from_utf8_lossy(&buffer[..length]);
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(
                line.trim()
                    .trim_start_matches("e ")
                    .trim_start_matches("w "),
            );
        }
        text
    }
}

/// Attaches a detached mount on the file or directory that `target` is.
///
/// # Errors
/// As move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    move_mount(mount, target, c"", 0x4 | 0x40)
}

/// Moves the mount that `from` is the root of onto the directory `to` (`MS_MOVE`).
///
/// # Errors
/// As move_mount(2).
pub fn move_to(from: BorrowedFd<'_>, to: &CStr) -> io::Result<()> {
    // SAFETY: both paths are C strings; AT_FDCWD is a legal directory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            0x4,
        )
    };
    check_long(result).map(drop)
}

fn move_mount(
    mount: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    path: &CStr,
    flags: u32,
) -> io::Result<()> {
    // SAFETY: both paths are C strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            path.as_ptr(),
            flags,
        )
    };
    check_long(result).map(drop)
}

/// mount(2) without source, type and data: changes propagation or flags of the mount at `target`.
///
/// # Errors
/// As mount(2).
pub fn change(target: &str, flags: u64) -> io::Result<()> {
    let target = CString::new(target)?;
    // SAFETY: `target` is a C string; the others may be null when only flags change.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            target.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    crate::check(result).map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root, the old root lies under it.
///
/// # Errors
/// As pivot_root(2).
pub fn pivot_root_here() -> io::Result<()> {
    // SAFETY: constant C strings.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
        .map(drop)
}

/// umount2(target, MNT_DETACH).
///
/// # Errors
/// As umount2(2).
pub fn detach(target: &CStr) -> io::Result<()> {
    // SAFETY: `target` is a C string.
    crate::check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

//! /boot-source.
use std::fs::File;
use std::io;
use std::path::Path;

use super::{BootFiles, Controller};
use crate::api::model::BootSource;
use crate::api::{Fault, Reply};

/// Firecracker's default for guests that are not told anything.
const DEFAULT_ARGS: &str = "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce";

impl Controller {
    pub(crate) fn put_boot_source(&mut self, source: BootSource) -> Result<Reply, Fault> {
        self.set_boot_source(source)
            .map_err(Fault::about("Boot source"))
    }

    fn set_boot_source(&mut self, source: BootSource) -> Result<Reply, Fault> {
        let kernel = open(&source.kernel_image_path)
            .map_err(|error| Fault(format!("The kernel file cannot be opened: {error}")))?;
        let initrd = source.initrd_path.as_deref().map(open).transpose().map_err(|error| {
            Fault(format!("The initrd file cannot be opened due to invalid path or invalid permissions. {error}"))
        })?;
        if source
            .boot_args
            .as_deref()
            .is_some_and(|args| args.contains('\0'))
        {
            return Err(Fault::new(
                "The kernel command line is invalid: it contains a zero byte.",
            ));
        }
        self.boot_files = Some(BootFiles { kernel, initrd });
        self.config.boot_source = Some(source);
        Ok(Reply::Done)
    }

    /// The command line without the devices: the user's words and the root drive.
    pub(super) fn boot_args(&self) -> String {
        let source = self.config.boot_source.as_ref();
        let mut args = source
            .and_then(|source| source.boot_args.as_deref())
            .unwrap_or(DEFAULT_ARGS)
            .to_owned();
        let drive = self.config.drives.iter().find(|drive| drive.is_root_device);
        let pmem = self.config.pmem.iter().find(|pmem| pmem.root_device);
        // The root is the first device of its kind, so the guest's vda or pmem0.
        let root = match (drive, pmem) {
            (Some(drive), _) => {
                let partition = drive.partuuid.as_ref();
                let device = partition.map(|partuuid| format!("PARTUUID={partuuid}"));
                let device = device.unwrap_or_else(|| "/dev/vda".to_owned());
                Some((device, drive.is_read_only.unwrap_or(false)))
            }
            (None, Some(pmem)) => Some(("/dev/pmem0".to_owned(), pmem.read_only)),
            (None, None) => None,
        };
        if let Some((device, is_read_only)) = root {
            let mode = if is_read_only { "ro" } else { "rw" };
            let words = format!(" root={device} {mode}");
            // What stands behind ` -- ` belongs to init.
            let at = args.find(" -- ").unwrap_or(args.len());
            args.insert_str(at, &words);
        }
        args
    }
}

/// Only regular files: a FIFO would block, a directory cannot be read.
fn open(path: &Path) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

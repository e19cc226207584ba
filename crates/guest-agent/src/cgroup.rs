//! A container's cgroup in the guest: its limits there, and the way to end all of it.

use std::fs;
use std::os::fd::OwnedFd;

use casemate_guest_protocol::{Limits, Stats};
use rustix::fs::{Mode, OFlags};

use crate::error::{About, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// What containers are limited and measured by; one that the kernel has not is passed over.
const CONTROLLERS: [&str; 4] = ["+memory", "+pids", "+cpu", "+io"];

/// Lets containers' cgroups have controllers.
pub(crate) fn prepare() -> Result<()> {
    for controller in CONTROLLERS {
        let _ = fs::write(format!("{ROOT}/cgroup.subtree_control"), controller);
    }
    Ok(())
}

/// The cgroup of one container, below the guest's root.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: String,
}

impl Cgroup {
    pub(crate) fn create(container: &str, limits: Limits) -> Result<Self> {
        let path = format!("{ROOT}/{container}");
        fs::create_dir_all(&path).about(&path)?;
        let cgroup = Self { path };
        for (file, value) in [("memory.max", limits.memory), ("pids.max", limits.pids)] {
            if value > 0 {
                cgroup.write(file, &value.to_string())?;
            }
        }
        Ok(cgroup)
    }

    /// For clone3 to start processes in.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.path.as_str(), flags, Mode::empty()).about(&self.path)
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut directories = vec![self.path.clone()];
        while let Some(directory) = directories.pop() {
            let text = fs::read_to_string(format!("{directory}/cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            // A container may have made cgroups of its own.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path().to_string_lossy().into_owned());
                }
            }
        }
        found
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Sets both limits anew; 0: none.
    pub(crate) fn limit(&self, limits: Limits) -> Result<()> {
        for (file, value) in [("memory.max", limits.memory), ("pids.max", limits.pids)] {
            let text = if value > 0 {
                value.to_string()
            } else {
                "max".to_owned()
            };
            self.write(file, &text)?;
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        let read =
            |file: &str| fs::read_to_string(format!("{}/{file}", self.path)).unwrap_or_default();
        // "max" is no number, and no limit.
        let number = |file: &str| read(file).trim().parse().unwrap_or(0);
        let field = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .unwrap_or(0)
        };
        let (cpu, events) = (read("cpu.stat"), read("memory.events"));
        Stats {
            cpu_us: field(&cpu, "usage_usec "),
            user_us: field(&cpu, "user_usec "),
            system_us: field(&cpu, "system_usec "),
            memory: number("memory.current"),
            memory_peak: number("memory.peak"),
            memory_limit: number("memory.max"),
            pids: number("pids.current"),
            pids_limit: number("pids.max"),
            oom_kills: field(&events, "oom_kill "),
        }
    }

    pub(crate) fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        fs::write(format!("{}/{file}", self.path), value).about(file)
    }
}

impl Drop for Cgroup {
    /// What a container left running in it ends later; an empty cgroup that stays costs nothing but its name.
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir(&self.path);
    }
}

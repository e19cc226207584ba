//! A container's kernel, put together.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use casemate_platform::notify::Listener;
use rustix::fs::{AtFlags, StatxFlags};

use crate::hooks::Held;
use crate::kernel::exit::Dying;
use crate::kernel::machine::{Cgroup, Machine, SELF};
use crate::kernel::pod::Pod;
use crate::kernel::{Kernel, offload};
use crate::trace::Trace;
use crate::vfs::place::Place;
use crate::vfs::tty::Terminals;
use crate::watcher;

use super::process::limits;

/// What a container's kernel is made of.
#[derive(Debug)]
pub struct Parts {
    pub jobs: offload::Sender,
    pub listener: Arc<Listener>,
    pub zygote: i32,
    pub loader: Arc<OwnedFd>,
    pub host_proc: OwnedFd,
    pub who: String,
    pub root: Arc<OwnedFd>,
    /// As `Given`'s.
    pub own_mounts: Vec<OwnedFd>,
    pub cgroup: Cgroup,
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    pub set_id_files: bool,
    pub trace: Trace,
    /// The first program is not to start yet.
    pub is_held: bool,
    pub watcher: watcher::Handle,
    pub pod: Arc<Pod>,
    /// The sentry's own user and group, and whether it passes the host's permission checks everywhere.
    pub host_ids: (u32, u32),
    pub overrides: bool,
}

impl Parts {
    pub fn assemble(self) -> rustix::io::Result<Kernel> {
        let wanted = StatxFlags::BASIC_STATS;
        let raw = rustix::fs::statx(&*self.root, "", AtFlags::EMPTY_PATH, wanted)?;
        let member = self.pod.join(self.watcher.clone());
        let terminals = Terminals::new(member.number, &*self.root);
        let machine = Machine::look(&self.host_proc, &self.who, &*self.root, self.cgroup);
        // A further container of a pod has no spinning server of its own.
        let spinning_for = if self.who == SELF {
            machine.cpus.len()
        } else {
            1
        };
        let root = Place::Host(self.root);
        Ok(Kernel {
            jobs: self.jobs,
            listener: self.listener,
            unsent: None,
            zygote: self.zygote,
            zygote_call: None,
            spawning: None,
            spawning_pid: 0,
            spawns: VecDeque::new(),
            reporters: HashMap::new(),
            loader: self.loader,
            tasks: HashMap::default(),
            processes: BTreeMap::new(),
            tids: HashMap::default(),
            embryos: Vec::new(),
            births: crate::kernel::births::Births::default(),
            tracees: Vec::new(),
            traced_ends: Vec::new(),
            vfork_queue: Arc::default(),
            dying: Dying::default(),
            buried: VecDeque::new(),
            programs: None,
            last_number: 0,
            deadlines: BTreeMap::new(),
            due: std::collections::BTreeSet::new(),
            timer_files: HashMap::new(),
            host_limits: limits(),
            fast: crate::fast::Fast::new(self.trace.is_on(), spinning_for),
            machine,
            host_proc: self.host_proc,
            who: self.who,
            terminals,
            files: crate::vfs::cache::Cache::new(&root, self.own_mounts),
            executed: crate::kernel::programs::Programs::default(),
            root,
            root_device: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            host_uid: self.host_ids.0,
            host_gid: self.host_ids.1,
            host_overrides: self.overrides,
            hostname: self.hostname,
            domainname: self.domainname,
            booted: Instant::now(),
            result: None,
            member,
            message_queues: crate::vfs::mqueue::Names::default(),
            sysv: crate::syscalls::sysv::Objects::default(),
            opening: HashMap::new(),
            lock_waits: HashMap::new(),
            write_hints: HashMap::new(),
            set_id_files: self.set_id_files,
            next_inode: 1 << 32,
            logins: 0,
            watcher: self.watcher,
            trace: self.trace,
            held: if self.is_held { Held::Wanted } else { Held::No },
        })
    }
}

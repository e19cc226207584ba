//! The container's first process: runs the operations in order, reports what fails, becomes the program.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use casemate_jail::seccomp::{Filter, compile};
use casemate_network::Tap;
use casemate_plan::{Op, Plan};
use casemate_sentry::Starting;

use crate::channel::{Channel, Event};
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::mount::Tree;
use crate::root::Root;

/// Compiled seccomp filters, in the order of the plan's `seccomp` operations. Compiled before the clone: a profile that is wrong fails early.
pub(crate) type Filters = VecDeque<Filter>;

pub(crate) fn compile_filters(plan: &Plan) -> Result<Filters> {
    let mut filters = Filters::new();
    for op in &plan.ops {
        if let Op::Seccomp {
            profile: Some(profile),
            ..
        } = op
        {
            filters.push_back(
                compile(profile).map_err(|error| Error::plain(format!("seccomp: {error}")))?,
            );
        }
    }
    Ok(filters)
}

/// What stage 1 made for the operations.
pub(crate) struct Prepared {
    pub(crate) filters: Filters,
    pub(crate) trees: VecDeque<Tree>,
    pub(crate) root_tree: Option<OwnedFd>,
}

/// What the operations share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) channel: Channel,
    pub(crate) root: Option<Root>,
    pub(crate) listen: Option<RawFd>,
    pub(crate) keep_fds: Vec<i32>,
    pub(crate) filters: Filters,
    /// The plan's bind mounts, where stage 1 made them.
    pub(crate) trees: VecDeque<Tree>,
    /// The root's overlay, where stage 1 made it.
    pub(crate) root_tree: Option<OwnedFd>,
    /// The program's path, once `check_exec` found it.
    pub(crate) program: Option<String>,
    /// The terminal's slave, once `pty` opened it.
    pub(crate) terminal: Option<OwnedFd>,
    /// Roots of the file systems in memory that `mount` made: nobody else has a mount of them.
    pub(crate) own_mounts: Vec<OwnedFd>,
    /// What a sentry's programs are forked from, once `zygote` started it.
    pub(crate) zygote: Option<Starting>,
    /// Of the machine to be.
    pub(crate) taps: Vec<Tap>,
    /// Descriptors that the plan's last operation takes.
    pub(crate) last_fds: Vec<i32>,
}

impl State {
    /// Descriptors that are still needed: those of owners here, and those that the plan names for its last operation.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let mut held = vec![self.channel.raw()];
        held.extend(self.listen);
        held.extend(&self.keep_fds);
        held.extend(&self.last_fds);
        held.extend(self.taps.iter().map(|tap| tap.fd.as_raw_fd()));
        held.extend(self.own_mounts.iter().map(AsRawFd::as_raw_fd));
        held.extend(self.root.as_ref().map(|root| root.fd().as_raw_fd()));
        held.extend(self.root_tree.as_ref().map(AsRawFd::as_raw_fd));
        held.extend(self.terminal.as_ref().map(AsRawFd::as_raw_fd));
        held
    }

    /// The root that `root` opened, or `/` after pivot_root.
    pub(crate) fn root(&self) -> Result<&Root> {
        self.root
            .as_ref()
            .ok_or_else(|| Error::plain("no root yet: the plan lacks `root`"))
    }
}

/// Runs the plan; returns only on failure, with the exit status.
pub(crate) fn run(plan: Plan, prepared: Prepared, channel: Channel) -> u8 {
    let mut state = State {
        channel,
        root: None,
        listen: plan.listen,
        keep_fds: plan.keep_fds,
        filters: prepared.filters,
        trees: prepared.trees,
        root_tree: prepared.root_tree,
        program: None,
        terminal: None,
        own_mounts: Vec::new(),
        zygote: None,
        taps: Vec::new(),
        last_fds: plan.ops.last().map(Op::descriptors).unwrap_or_default(),
    };
    for (index, op) in plan.ops.into_iter().enumerate() {
        let name = ops::name(&op);
        if let Err(error) = ops::run(op, &mut state) {
            let index = i64::try_from(index).unwrap_or(i64::MAX);
            let event = Event::Error {
                op: name,
                index,
                errno: error.errno,
                message: &error.message,
            };
            // A starter that is gone needs no report; the process ends either way.
            let _ = state.channel.send(&event, None);
            return 1;
        }
    }
    let event = Event::Error {
        op: "",
        index: -1,
        errno: 0,
        message: "nothing to execute: the specification has no `process`",
    };
    let _ = state.channel.send(&event, None);
    1
}

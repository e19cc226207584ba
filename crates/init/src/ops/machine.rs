//! `machine`, `machine_join`, `machine_exec`: this process becomes the relay between the host and a program in a virtual machine, or stands on the host for
//! a further container or program of it.

use casemate_guest_protocol::{Limits, Root, Share};
use std::os::fd::{AsFd, AsRawFd};

use casemate_host::clone::setns;
use casemate_host::{child, mount, process};
use casemate_plan::op;
use casemate_relay::client::{self, Joining};
use casemate_relay::{Config, Front, Given, run};
use rustix::fs::Mode;

use crate::channel::Event;
use crate::child::State;
use crate::error::{Context, Error, Result};

/// Runs the machine, and ends as its first container's program ends. Returns only if nothing was started.
pub(super) fn machine(machine: op::Machine, state: &mut State) -> Result<()> {
    let raw = state
        .listen
        .ok_or_else(|| Error::plain("machine without `listen`"))?;
    (state.root, state.root_tree, state.terminal) = (None, None, None);
    state.trees.clear();
    let mut kept = vec![state.channel.raw(), raw];
    kept.extend(machine.agent);
    kept.extend(machine.report);
    kept.extend(&machine.inherit);
    kept.extend(state.taps.iter().map(|tap| tap.fd.as_raw_fd()));
    process::close_all_but(&kept).context(|| "close_range".into())?;
    let given = Given {
        channel: process::duplicate(state.channel.raw()).context(|| "channel".into())?,
        listen: process::take_fd(raw).context(|| "listen descriptor".into())?,
        agent: machine
            .agent
            .map(process::take_fd)
            .transpose()
            .context(|| "agent descriptor".into())?,
        report: machine
            .report
            .map(process::take_fd)
            .transpose()
            .context(|| "report descriptor".into())?,
        inherit: machine
            .inherit
            .into_iter()
            .map(process::take_fd)
            .collect::<std::io::Result<_>>()
            .context(|| "descriptor of the hypervisor".into())?,
        taps: std::mem::take(&mut state.taps),
    };
    // From here on the relay holds the channel, whose end says that the program runs.
    drop(process::take_fd(state.channel.raw()).context(|| "channel".into())?);
    let share = match machine.share.as_deref() {
        Some("virtiofs") => Some(Share::Virtiofs),
        Some("protocol") => Some(Share::Protocol),
        _ => None,
    };
    let disk = machine.root_disk;
    let root = machine.root_image.map(|image| Root { image, disk });
    let config = Config {
        helpers: machine.helpers,
        files: machine.files.map(|files| Front {
            listen: files.listen,
            server: files.server,
            name: files.name,
        }),
        command: machine.command,
        restored: machine.restored,
        orders: machine.orders,
        env: machine.env,
        user: machine.user,
        traces: machine.traces,
        card: machine.card,
        share,
        root,
        container: machine.container,
        plan: machine.plan,
        has_terminal: machine.terminal,
        limits: Limits {
            memory: machine.memory,
            pids: machine.pids,
        },
        default_action: machine.default_action,
        boot_timeout_s: machine.boot_timeout_s,
        link_window: machine.link_window,
    };
    child::exit_now(run(config, given))
}

const CLONE_NEWNS: i32 = 0x2_0000;

/// Puts this container's files into a machine's share, and stands on the host for the container that the machine then makes of them. Returns only if it was
/// not created, having told why.
pub(super) fn machine_join(join: op::MachineJoin, state: &mut State) -> Result<()> {
    let listen = state
        .listen
        .ok_or_else(|| Error::plain("machine_join without `listen`"))?;
    let share = state
        .root()?
        .locate(&join.share)
        .context(|| join.share.clone())?;
    let tree =
        mount::clone_tree(share.as_fd(), true).context(|| "copy the container's files".into())?;
    drop(share);
    (state.root, state.root_tree) = (None, None);
    state.trees.clear();
    let machine = process::take_fd(join.machine).context(|| "machine descriptor".into())?;
    setns(machine.as_fd(), CLONE_NEWNS).context(|| "join the machine's mounts".into())?;
    rustix::fs::mkdir(join.at.as_str(), Mode::from_raw_mode(0o755)).context(|| join.at.clone())?;
    let at = rustix::fs::open(
        join.at.as_str(),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(|| join.at.clone())?;
    mount::attach(tree.as_fd(), at.as_fd()).context(|| join.at.clone())?;
    let terminal = state.terminal.take();
    let joining = Joining {
        container: join.container,
        plan: join.plan,
        memory: join.memory,
        pids: join.pids,
        shared: join.shared,
        listen: process::take_fd(listen).context(|| "listen descriptor".into())?,
    };
    let mut kept = vec![
        join.control,
        state.channel.raw(),
        joining.listen.as_raw_fd(),
    ];
    kept.extend(terminal.as_ref().map(AsRawFd::as_raw_fd));
    drop((tree, at, machine));
    process::close_all_but(&kept).context(|| "close_range".into())?;
    let control = process::take_fd(join.control).context(|| "control descriptor".into())?;
    let channel = process::duplicate(state.channel.raw()).context(|| "channel".into())?;
    let Err(refused) = client::join(control, joining, terminal, channel);
    refuse(&refused, state)
}

fn refuse(refused: &client::Refused, state: &State) -> Result<()> {
    let event = Event::Error {
        op: &refused.op,
        index: -1,
        errno: refused.errno,
        message: &refused.message,
    };
    state.channel.send(&event, None)?;
    child::exit_now(1)
}

/// Runs a further program in a machine. Returns only if it was not started, having told why.
pub(super) fn machine_exec(
    control: i32,
    terminal: Option<(u16, u16)>,
    plan: Vec<u8>,
    state: &mut State,
) -> Result<()> {
    let control = process::take_fd(control).context(|| "control descriptor".into())?;
    let channel = process::duplicate(state.channel.raw()).context(|| "channel".into())?;
    let Err(refused) = client::exec(control, plan, terminal, channel);
    refuse(&refused, state)
}

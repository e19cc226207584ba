//! `machine`, `machine_exec`: this process becomes the relay between the host and a program in a virtual machine.

use casemate_guest_protocol::{Limits, Share};
use casemate_host::{child, process};
use casemate_plan::op;
use casemate_relay::{Config, Given, client, run};

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
    process::close_all_but(&[state.channel.raw(), raw]).context(|| "close_range".into())?;
    let given = Given {
        channel: process::duplicate(state.channel.raw()).context(|| "channel".into())?,
        listen: process::take_fd(raw).context(|| "listen descriptor".into())?,
    };
    // From here on the relay holds the channel, whose end says that the program runs.
    drop(process::take_fd(state.channel.raw()).context(|| "channel".into())?);
    let share = match machine.share.as_deref() {
        Some("hostfs") => Some(Share::Hostfs),
        Some("virtiofs") => Some(Share::Virtiofs),
        _ => None,
    };
    let config = Config {
        helpers: machine.helpers,
        wait_for: machine.wait_for,
        command: machine.command,
        env: machine.env,
        share,
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
    let event = Event::Error {
        op: &refused.op,
        index: -1,
        errno: refused.errno,
        message: &refused.message,
    };
    state.channel.send(&event, None)?;
    child::exit_now(1)
}

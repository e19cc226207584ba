//! `sentry_exec`: stands on the host for a program that a sentry runs: has it started, passes signals on, and ends as it ends.
//!
//! This process joins nothing of the container's but its cgroup and executes nothing.

use std::os::fd::AsFd;

use casemate_plan::op;
use casemate_sentry::control::messages::{Event, Request};

use super::sentry::config;
use super::sentry_client::{Client, stand_in};
use crate::channel;
use crate::child::State;
use crate::error::{Error, Result};

pub(super) fn sentry_exec(
    control: i32,
    terminal: Option<(u16, u16)>,
    program: op::Sentry,
    state: &mut State,
) -> Result<()> {
    let signals = stand_in()?;
    let mut client = Client::new(control)?;
    let mut numbers: Vec<i32> = if terminal.is_some() {
        Vec::new()
    } else {
        vec![0, 1, 2]
    };
    numbers.extend(&state.keep_fds);
    let request = Request::Exec {
        program: Box::new(config(program)?),
        terminal,
        descriptors: numbers.clone(),
    };
    client.send(&request, &numbers)?;
    loop {
        match client.next()? {
            Some(Event::Console) => {
                let master = client.descriptors.pop();
                let master = master.ok_or_else(|| Error::plain("a terminal without descriptor"))?;
                state
                    .channel
                    .send(&channel::Event::Console, Some(master.as_fd()))?;
            }
            Some(Event::Started { .. }) => break,
            Some(Event::Error { errno, message }) => return Err(Error::with_errno(message, errno)),
            Some(_) => {}
            None => return Err(Error::plain("the sandbox ended")),
        }
    }
    client.stay(&signals)
}

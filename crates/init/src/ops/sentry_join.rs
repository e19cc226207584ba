//! `sentry_join`: hands a container that was made here to the sentry of its pod, and stands for it on the host. Its tree, zygote, cgroup and the descriptors
//! that the sentry's jail lets nobody make are this process's; no program is executed here.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use casemate_host::child;
use casemate_plan::op;
use casemate_sentry::await_zygote;
use casemate_sentry::control::messages::{Event, Request};
use casemate_sentry::member::{Joining, Part};
use rustix::event::epoll::{self, CreateFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

use super::sentry::{config, hook, shell_code, strace};
use super::sentry_client::{Client, stand_in};
use crate::child::State;
use crate::error::{Context, Error, Result};

pub(super) fn sentry_join(control: i32, program: op::Sentry, state: &mut State) -> Result<()> {
    let missing = || Error::plain("sentry_join without zygote");
    let zygote = await_zygote(state.zygote.take().ok_or_else(missing)?)
        .map_err(|error| Error::with_errno(error.message, error.errno))?;
    let listen = state
        .listen
        .ok_or_else(|| Error::plain("sentry_join without `listen`"))?;
    let signals = stand_in()?;
    let made = made()?;
    let mut given: Vec<(Part, RawFd)> = made
        .iter()
        .map(|(part, fd)| (*part, fd.as_raw_fd()))
        .collect();
    given.push((Part::Listener, zygote.listener.raw()));
    given.push((Part::Control, listen));
    given.extend(limits(&program.cgroup));
    let streams = (0..3).chain(state.keep_fds.iter().copied());
    given.extend(streams.map(|number| (Part::Stream(number), number)));
    let mut program = program;
    let hooks = std::mem::take(&mut program.hooks);
    let asked = program.strace.take();
    // The sentry's own standard error is the first container's.
    let log = asked.as_ref().map(|asked| asked.log.unwrap_or(2));
    given.extend(log.map(|log| (Part::Strace, log)));
    let names = rustix::system::uname();
    let joining = Joining {
        program: Box::new(config(program)?),
        hooks: hooks.into_iter().map(hook).collect(),
        strace: asked.map(strace),
        zygote: zygote.pid,
        process: rustix::process::getpid().as_raw_nonzero().get(),
        hostname: names.nodename().to_string_lossy().into_owned(),
        domainname: names.domainname().to_string_lossy().into_owned(),
        has_terminal: state.terminal.is_some(),
        parts: given.iter().map(|(part, _)| *part).collect(),
    };
    let descriptors: Vec<RawFd> = given.iter().map(|(_, fd)| *fd).collect();
    let mut client = Client::new(control)?;
    client.send(&Request::Join(Box::new(joining)), &descriptors)?;
    loop {
        match client.next()? {
            Some(Event::Started { .. }) => break,
            Some(Event::Error { errno, message }) => return Err(Error::with_errno(message, errno)),
            // It was quicker than the word of its start.
            Some(Event::Exited { status }) => child::exit_now(shell_code(status)),
            Some(_) => {}
            None => return Err(Error::plain("the sandbox ended")),
        }
    }
    client.stay(&signals)
}

fn made() -> Result<Vec<(Part, OwnedFd)>> {
    let event = || {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        eventfd(0, flags).context(|| "eventfd".into())
    };
    let clock = || {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Monotonic, flags).context(|| "timerfd".into())
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", directory, Mode::empty()).context(|| "/".into())?;
    let epoll = epoll::create(CreateFlags::CLOEXEC).context(|| "epoll".into())?;
    Ok(vec![
        (Part::Root, root),
        (Part::Epoll, epoll),
        (Part::Ring, event()?),
        (Part::Clock, clock()?),
        (Part::ControlWake, event()?),
        (Part::HookWake, event()?),
    ])
}

fn limits(files: &op::SentryCgroup) -> impl Iterator<Item = (Part, RawFd)> {
    let all = [
        (Part::MemoryLimit, files.memory_limit),
        (Part::MemoryUsed, files.memory_used),
        (Part::CpuQuota, files.cpu_quota),
        (Part::CpuPeriod, files.cpu_period),
        (Part::PidsLimit, files.pids_limit),
    ];
    all.into_iter()
        .filter_map(|(part, fd)| fd.map(|fd| (part, fd)))
}

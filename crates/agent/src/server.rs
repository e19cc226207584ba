//! The loop: connections, ends of children, the deadline. One thread; it sleeps in epoll when nothing happens.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use casemate_host::child;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{SocketFlags, accept_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::connection::{Connection, Read};
use crate::messages::{Changed, Reply, Request};
use crate::programs::Programs;
use crate::{About, Answer, Refusal, files, spawn, watch};

const LISTEN: u64 = 0;
const CHILDREN: u64 = 1;
const TIMER: u64 = 2;
const FIRST_CONNECTION: u64 = 16;
/// Of the watch that a connection keeps, beside the connection's number.
const KEPT: u64 = 1 << 63;
/// Bytes of a file in one answer: with the rest of it they fit into a frame.
const MOST_BYTES: usize = 512 << 10;
/// Events of inotify(7) in one answer.
const MOST_CHANGES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Server {
    listen: OwnedFd,
    epoll: OwnedFd,
    children: OwnedFd,
    timer: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    programs: Programs,
    next: u64,
    ending: bool,
}

/// An answer, and the descriptor that goes with it.
type Outcome = Answer<(Reply, Option<OwnedFd>)>;

impl Server {
    pub(crate) fn new(listen: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let children = child::child_events()?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&epoll, &listen, EventData::new_u64(LISTEN), EventFlags::IN)?;
        epoll::add(
            &epoll,
            &children,
            EventData::new_u64(CHILDREN),
            EventFlags::IN,
        )?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self {
            listen,
            epoll,
            children,
            timer,
            connections: BTreeMap::new(),
            programs: Programs::default(),
            next: FIRST_CONNECTION,
            ending: false,
        })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(16);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTEN => self.accept(),
                    CHILDREN => {
                        if self.reap() && self.ending {
                            return Ok(());
                        }
                    }
                    TIMER => return Ok(()), // the deadline, or the end of the grace
                    kept if kept & KEPT != 0 => {
                        self.send(kept & !KEPT, &Changed { event: "changed" }, None);
                    }
                    connection => self.serve(connection),
                }
            }
        }
    }

    /// Takes a connection from outside. A program of the sandbox has no path to the socket; if one found it, its pid would be visible here.
    fn accept(&mut self) {
        let Ok(socket) = accept_with(&self.listen, SocketFlags::CLOEXEC) else {
            return;
        };
        if child::peer_pid(socket.as_fd()).ok() != Some(0) {
            return;
        }
        let Ok(connection) = Connection::new(socket) else {
            return;
        };
        let number = self.next;
        self.next += 1;
        if epoll::add(
            &self.epoll,
            &connection,
            EventData::new_u64(number),
            EventFlags::IN,
        )
        .is_ok()
        {
            self.connections.insert(number, connection);
        }
    }

    /// Reaps all that ended and tells who waits; whether no child is left.
    fn reap(&mut self) -> bool {
        let mut drained = [0u8; 1280];
        while rustix::io::read(&self.children, &mut drained).is_ok() {}
        loop {
            match child::reap() {
                Ok(Some(ended)) => {
                    if let Some((exited, waiting)) = self.programs.end(&ended) {
                        for connection in waiting {
                            self.send(connection, &exited, None);
                        }
                    }
                }
                Ok(None) => return false,
                Err(_) => return true, // ECHILD
            }
        }
    }

    fn serve(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let read = connection.read();
        while let Some(connection) = self.connections.get_mut(&number) {
            match connection.next() {
                Ok(Some(body)) => {
                    let descriptors = connection.take_descriptors();
                    self.request(number, &body, &descriptors);
                }
                Ok(None) => break,
                Err(crate::frames::TooLong) => {
                    self.connections.remove(&number);
                    return;
                }
            }
        }
        if read == Read::End {
            self.connections.remove(&number); // closing takes it out of the epoll set
        }
    }

    fn request(&mut self, number: u64, body: &[u8], descriptors: &[OwnedFd]) {
        let request = match rmp_serde::from_slice::<Request>(body) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::new(libc::EINVAL, format!("request: {error}"));
                return self.answer(number, Err(refusal));
            }
        };
        match request {
            Request::Wait { pid } => match self.programs.wait(pid, number) {
                Ok(ended) => {
                    self.answer(number, done());
                    if let Some(exited) = ended {
                        self.send(number, &exited, None);
                    }
                }
                Err(refusal) => self.answer(number, Err(refusal)),
            },
            other => {
                let outcome = self.perform(other, number, descriptors);
                self.answer(number, outcome);
            }
        }
    }

    fn perform(&mut self, request: Request, number: u64, descriptors: &[OwnedFd]) -> Outcome {
        match request {
            Request::Ping {} => Ok((
                Reply::Version {
                    ok: true,
                    version: env!("CARGO_PKG_VERSION"),
                },
                None,
            )),
            Request::Exec(program) => {
                let started = spawn::start(&program, descriptors)?;
                let pid = started.pid;
                let terminal = started
                    .terminal
                    .as_ref()
                    .map(OwnedFd::try_clone)
                    .transpose()
                    .about("terminal")?;
                self.programs.add(started, program, number);
                Ok((Reply::Started { ok: true, pid }, terminal))
            }
            Request::Signal { pid, signal, group } => {
                self.programs.check(pid)?;
                child::kill(if group { -pid } else { pid }, signal).about("kill")?;
                done()
            }
            Request::Processes {} => Ok((
                Reply::Processes {
                    ok: true,
                    processes: self.programs.list(),
                },
                None,
            )),
            Request::Resize { pid, columns, rows } => {
                spawn::resize(self.programs.terminal(pid)?, columns, rows)?;
                done()
            }
            Request::Deadline { ms } => {
                self.set_timer(ms)?;
                done()
            }
            Request::Shutdown { signal, grace_ms } => {
                self.ending = true;
                self.set_timer(grace_ms.max(1))?;
                match child::kill(-1, signal) {
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => self.set_timer(1)?, // nothing runs
                    other => other.about("kill")?,
                }
                done()
            }
            Request::Wait { .. } => unreachable!("answered by `request`"),
            Request::Open {
                path,
                flags,
                mode,
                parents,
                keep: true,
            } => {
                let file = files::open(&path, flags, mode, parents)?;
                self.keep(number, file);
                done()
            }
            Request::Read { count } => {
                let mut bytes = vec![0; MOST_BYTES.min(count as usize)];
                let read = rustix::io::read(self.kept(number)?, &mut bytes).about("read")?;
                bytes.truncate(read);
                Ok((Reply::Bytes { ok: true, bytes }, None))
            }
            Request::Write { bytes } => {
                let count = rustix::io::write(self.kept(number)?, &bytes).about("write")?;
                Ok((Reply::Count { ok: true, count }, None))
            }
            Request::Watch {
                path,
                recursive,
                keep: true,
            } => {
                let (inotify, directories) = watch::watch(&path, recursive)?;
                let token = EventData::new_u64(KEPT | number);
                let flags = EventFlags::IN | EventFlags::ONESHOT;
                epoll::add(&self.epoll, &inotify, token, flags).about("watch")?;
                self.keep(number, inotify);
                let reply = Reply::Watching {
                    ok: true,
                    directories,
                };
                Ok((reply, None))
            }
            Request::Changes {} => {
                let watch = self.kept(number)?;
                let mut bytes = vec![0; MOST_CHANGES];
                let read = match rustix::io::read(watch, &mut bytes) {
                    Err(rustix::io::Errno::AGAIN) => 0,
                    other => other.about("changes")?,
                };
                bytes.truncate(read);
                if read == 0 {
                    let token = EventData::new_u64(KEPT | number);
                    let flags = EventFlags::IN | EventFlags::ONESHOT;
                    epoll::modify(&self.epoll, watch, token, flags).about("changes")?;
                }
                Ok((Reply::Bytes { ok: true, bytes }, None))
            }
            Request::WatchMore { path } => {
                let descriptor = watch::add(self.kept(number)?, &path)?;
                let directories = vec![(descriptor, path)];
                let reply = Reply::Watching {
                    ok: true,
                    directories,
                };
                Ok((reply, None))
            }
            other => file_request(other),
        }
    }

    /// Keeps a descriptor for a connection in place of what it kept before.
    fn keep(&mut self, number: u64, descriptor: OwnedFd) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.kept = Some(descriptor);
        }
    }

    fn kept(&self, number: u64) -> Answer<&OwnedFd> {
        self.connections
            .get(&number)
            .and_then(|connection| connection.kept.as_ref())
            .ok_or_else(|| Refusal::new(libc::EBADF, "the connection keeps no file"))
    }

    /// Ends the agent after `ms`; 0: no deadline.
    fn set_timer(&self, ms: u64) -> Answer<()> {
        let whole = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        let setting = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: whole,
                tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .about("timer")
            .map(drop)
    }

    fn answer(&mut self, number: u64, outcome: Outcome) {
        let (reply, descriptor) = outcome.unwrap_or_else(|refusal| {
            (
                Reply::Refused {
                    ok: false,
                    errno: refusal.errno,
                    message: refusal.message,
                },
                None,
            )
        });
        self.send(number, &reply, descriptor.as_ref());
    }

    /// A peer that is gone, or does not read, loses its connection.
    fn send(&mut self, number: u64, message: &impl serde::Serialize, descriptor: Option<&OwnedFd>) {
        let failed = self.connections.get(&number).is_some_and(|connection| {
            connection
                .send(message, descriptor.map(AsFd::as_fd))
                .is_err()
        });
        if failed {
            self.connections.remove(&number);
        }
    }
}

fn done() -> Outcome {
    Ok((Reply::Done { ok: true }, None))
}

fn file_request(request: Request) -> Outcome {
    let reply = match request {
        Request::Open {
            path,
            flags,
            mode,
            parents,
            keep: _,
        } => {
            let file = files::open(&path, flags, mode, parents)?;
            return Ok((Reply::Done { ok: true }, Some(file)));
        }
        Request::Stat { path, follow } => Reply::Status {
            ok: true,
            status: files::status(&path, follow)?,
        },
        Request::List { path, depth, limit } => {
            let (entries, truncated) = files::list(&path, depth, limit)?;
            Reply::Entries {
                ok: true,
                entries,
                truncated,
            }
        }
        Request::MakeDir {
            path,
            mode,
            parents,
        } => Reply::Made {
            ok: true,
            created: files::make_dir(&path, mode, parents)?,
        },
        Request::Rename {
            source,
            destination,
        } => {
            files::rename(&source, &destination)?;
            Reply::Done { ok: true }
        }
        Request::Remove { path, recursive } => {
            files::remove(&path, recursive)?;
            Reply::Done { ok: true }
        }
        Request::Watch {
            path, recursive, ..
        } => {
            let (inotify, directories) = watch::watch(&path, recursive)?;
            return Ok((
                Reply::Watching {
                    ok: true,
                    directories,
                },
                Some(inotify),
            ));
        }
        other => {
            return Err(Refusal::new(
                libc::ENOSYS,
                format!("not a file request: {other:?}"),
            ));
        }
    };
    Ok((reply, None))
}

//! The hypervisor's processes: started once, before anything of the guest is heard.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use std::time::{Duration, Instant};

use casemate_host::process::set_close_on_exec;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

use crate::Config;

const READY: Duration = Duration::from_secs(10);
/// Of what the guest's kernel says, as much is kept as explains its end.
const KEPT: usize = 4096;

#[derive(Debug)]
pub(crate) struct Hypervisor {
    pid: u32,
    helpers: Vec<u32>,
    console: Option<Console>,
    monitor: Option<OwnedFd>,
}

/// The guest's console and the hypervisor's own words: read and forgotten, but for the last of them.
#[derive(Debug)]
struct Console {
    pipe: io::PipeReader,
    tail: Vec<u8>,
}

impl Hypervisor {
    /// Starts the helpers and the hypervisor, which inherits `link` as the descriptor that `{link}` stands for.
    pub(crate) fn start(config: &Config, link: &OwnedFd) -> io::Result<Self> {
        let Config {
            helpers,
            command,
            env,
            ..
        } = config;
        let (reader, writer) = io::pipe()?;
        fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        let mut started = Vec::new();
        for helper in helpers {
            started.push(spawn(helper, env, &writer)?.id());
        }
        for path in &config.wait_for {
            wait_for(path)?;
        }
        let (monitor, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut opened = Vec::new();
        let mut words = Vec::new();
        for word in command {
            let word = word
                .replace("{link}", &link.as_raw_fd().to_string())
                .replace("{monitor}", &theirs.as_raw_fd().to_string());
            words.push(with_opened(word, &mut opened)?);
        }
        opened.push(theirs);
        for fd in opened.iter().chain([link]) {
            set_close_on_exec(fd.as_raw_fd(), false)?;
        }
        let child = spawn(&words, env, &writer)?;
        Ok(Self {
            pid: child.id(),
            helpers: started,
            monitor: config.restored.is_some().then_some(monitor),
            console: Some(Console {
                pipe: reader,
                tail: Vec::new(),
            }),
        })
    }

    /// Tells the hypervisor's monitor; what that answers is nobody's business: the guest misses what was not done.
    pub(crate) fn tell(&self, lines: &[String]) -> io::Result<()> {
        if let Some(monitor) = &self.monitor {
            for line in lines {
                rustix::net::send(monitor, format!("{line}\n").as_bytes(), SendFlags::NOSIGNAL)?;
            }
        }
        Ok(())
    }

    pub(crate) fn is(&self, pid: i32) -> bool {
        u32::try_from(pid).is_ok_and(|pid| pid == self.pid)
    }

    /// Without its helpers a machine is not whole: a guest would wait for its files for ever.
    pub(crate) fn is_helper(&self, pid: i32) -> bool {
        u32::try_from(pid).is_ok_and(|pid| self.helpers.contains(&pid))
    }

    pub(crate) fn console(&self) -> Option<BorrowedFd<'_>> {
        self.console.as_ref().map(|console| console.pipe.as_fd())
    }

    pub(crate) fn read_console(&mut self) {
        let Some(console) = &mut self.console else {
            return;
        };
        let mut bytes = [0; 4096];
        match console.pipe.read(&mut bytes) {
            Ok(0) => self.console = None,
            Ok(count) => {
                console.tail.extend_from_slice(&bytes[..count]);
                let excess = console.tail.len().saturating_sub(KEPT);
                console.tail.drain(..excess);
            }
            Err(_) => {}
        }
    }

    /// The last lines, without what a terminal would act upon: the guest wrote them.
    pub(crate) fn last_words(&mut self) -> String {
        for _ in 0..4 {
            self.read_console();
        }
        let tail = self
            .console
            .as_ref()
            .map_or(&[][..], |console| &console.tail);
        let text: String = String::from_utf8_lossy(tail)
            .chars()
            .filter(|character| *character == '\n' || !character.is_control())
            .collect();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// Replaces `{open:PATH}` by the number of a descriptor of that file.
fn with_opened(word: String, opened: &mut Vec<OwnedFd>) -> io::Result<String> {
    let Some((before, rest)) = word.split_once("{open:") else {
        return Ok(word);
    };
    let (path, after) = rest
        .split_once('}')
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let file = OwnedFd::from(std::fs::File::open(path)?);
    let replaced = format!("{before}{}{after}", file.as_raw_fd());
    opened.push(file);
    Ok(replaced)
}

/// A helper is ready in milliseconds. One that died is told by what it has said.
fn wait_for(path: &str) -> io::Result<()> {
    let deadline = Instant::now() + READY;
    while !std::fs::exists(path)? {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{path} did not appear")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn spawn(words: &[String], env: &[String], output: &io::PipeWriter) -> io::Result<Child> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let variables = env.iter().filter_map(|pair| pair.split_once('='));
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output.try_clone()?))
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))
}

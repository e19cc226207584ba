//! The hypervisor's processes: started once, before anything of the guest is heard.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use std::time::{Duration, Instant};

use casemate_host::process::set_close_on_exec;
use rustix::fs::{OFlags, fcntl_setfl};

use crate::Config;

const READY: Duration = Duration::from_secs(10);
/// Of what the guest's kernel says, as much is kept as explains its end.
const KEPT: usize = 4096;

#[derive(Debug)]
pub(crate) struct Hypervisor {
    pid: u32,
    console: Option<Console>,
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
        for helper in helpers {
            spawn(helper, env, &writer)?;
        }
        for path in &config.wait_for {
            wait_for(path)?;
        }
        let number = link.as_raw_fd().to_string();
        let words: Vec<String> = command
            .iter()
            .map(|word| word.replace("{link}", &number))
            .collect();
        set_close_on_exec(link.as_raw_fd(), false)?;
        let child = spawn(&words, env, &writer)?;
        Ok(Self {
            pid: child.id(),
            console: Some(Console {
                pipe: reader,
                tail: Vec::new(),
            }),
        })
    }

    pub(crate) fn is(&self, pid: i32) -> bool {
        u32::try_from(pid).is_ok_and(|pid| pid == self.pid)
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

//! The hypervisor's processes: started once, before anything of the guest is heard.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use casemate_guest_protocol::Share;
use casemate_host::process::set_close_on_exec;
use rustix::fs::{MemfdFlags, OFlags, SeekFrom, fcntl_setfl, memfd_create, seek};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

use crate::files::Files;
use crate::{Config, Front, jail, vhost};

/// Of what the guest's kernel says, as much is kept as explains its end.
const KEPT: usize = 4096;
const COPIED_AT_ONCE: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct Hypervisor {
    pid: u32,
    helpers: Vec<u32>,
    /// The server of files over the link; the relay takes it.
    pub(crate) files: Option<Files>,
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
    /// Starts the helpers, gives up what only they need, and starts the hypervisor, which inherits `link` as the descriptor that `{link}` stands for, and `opened`
    /// as those that its command names.
    pub(crate) fn start(
        config: &Config,
        link: &OwnedFd,
        mut opened: Vec<OwnedFd>,
    ) -> io::Result<Self> {
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
            started.push(start_helper(helper, env, &writer)?);
        }
        let files = if config.share == Some(Share::Protocol) {
            let (files, pid) = Files::start(&writer)?;
            started.push(pid);
            Some(files)
        } else {
            None
        };
        let front = config.files.as_ref().map(Meeting::prepare).transpose()?;
        let (monitor, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut words = Vec::new();
        for word in command {
            let word = word
                .replace("{link}", &link.as_raw_fd().to_string())
                .replace("{monitor}", &theirs.as_raw_fd().to_string());
            words.push(with_opened(word, &mut opened)?);
        }
        for line in &config.orders {
            let line = with_opened(line.clone(), &mut opened)?;
            say(&monitor, &line)?;
        }
        opened.push(theirs);
        for fd in opened.iter().chain([link]) {
            set_close_on_exec(fd.as_raw_fd(), false)?;
        }
        jail::enter(config)?;
        let pid = spawn(&words, env, &writer)?.id();
        jail::close()?;
        if let Some(front) = front {
            // When it ends, so does one of its peers, which the relay hears of.
            std::thread::spawn(move || {
                let (hypervisor, _) = front.listen.accept()?;
                vhost::serve(&hypervisor, &front.server, &front.name)
            });
        }
        Ok(Self {
            pid,
            helpers: started,
            files,
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
                say(monitor, line)?;
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

fn say(monitor: &OwnedFd, line: &str) -> io::Result<()> {
    rustix::net::send(monitor, format!("{line}\n").as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Replaces `{open:PATH}` by the number of a descriptor of that file, and `{copy:PATH}` by that of a copy.
fn with_opened(word: String, opened: &mut Vec<OwnedFd>) -> io::Result<String> {
    let (found, is_copy) = match word.split_once("{open:") {
        Some(found) => (Some(found), false),
        None => (word.split_once("{copy:"), true),
    };
    let Some((before, rest)) = found else {
        return Ok(word);
    };
    let (path, after) = rest
        .split_once('}')
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let file = File::open(path)?;
    let file = if is_copy {
        copy_in_memory(&file)?
    } else {
        OwnedFd::from(file)
    };
    let replaced = format!("{before}{}{after}", file.as_raw_fd());
    opened.push(file);
    Ok(replaced)
}

/// A copy of a sparse file, with the same holes: for memory that others map too, which a private mapping of the file would not be.
fn copy_in_memory(source: &File) -> io::Result<OwnedFd> {
    let copy = File::from(memfd_create("memory", MemfdFlags::CLOEXEC)?);
    copy.set_len(source.metadata()?.len())?;
    let mut buffer = vec![0; COPIED_AT_ONCE];
    let mut at = 0;
    loop {
        at = match seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(copy.into()),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(source, SeekFrom::Hole(at))?;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(COPIED_AT_ONCE);
            let part = &mut buffer[..most.min(COPIED_AT_ONCE)];
            source.read_exact_at(part, at)?;
            copy.write_all_at(part, at)?;
            at += part.len() as u64;
        }
    }
}

/// Where the hypervisor will connect, and the server's end of what it then says.
struct Meeting {
    listen: UnixListener,
    server: UnixStream,
    name: String,
}

impl Meeting {
    fn prepare(front: &Front) -> io::Result<Self> {
        Ok(Self {
            listen: listen(&front.listen)?,
            server: UnixStream::connect(&front.server)?,
            name: front.name.clone(),
        })
    }
}

/// The hypervisor has another user than who listens; nobody else is in this jail.
fn listen(path: &str) -> io::Result<UnixListener> {
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
    Ok(socket)
}

/// Its sockets listen before it runs: who connects need not wait for it.
fn start_helper(words: &[String], env: &[String], output: &io::PipeWriter) -> io::Result<u32> {
    let mut sockets = Vec::new();
    let mut changed = Vec::new();
    for word in words {
        let Some((before, path)) = word.split_once("{listen:") else {
            changed.push(word.clone());
            continue;
        };
        let socket = listen(path.trim_end_matches('}'))?;
        set_close_on_exec(socket.as_raw_fd(), false)?;
        changed.push(format!("{before}{}", socket.as_raw_fd()));
        sockets.push(socket);
    }
    Ok(spawn(&changed, env, output)?.id())
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

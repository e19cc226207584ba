//! Starts one program: a session of its own, its stdio, its user, no capabilities; then execve.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use casemate_host::clone::Side;
use casemate_host::{child, process};
use casemate_jail::credentials;
use casemate_plan::op::Credentials;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::messages::{Program, Size};
use crate::users::{self, User};
use crate::{About, Answer, Refusal};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// The terminal's master, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Starts `program` on three descriptors, or on a new terminal.
pub(crate) fn start(program: &Program, stdio: &[OwnedFd]) -> Answer<Started> {
    let ready = Ready::new(program)?;
    let terminal = program.pty.map(open_terminal).transpose()?;
    if terminal.is_none() && stdio.len() != 3 {
        return Err(Refusal::new(
            libc::EINVAL,
            "exec needs three descriptors, or pty",
        ));
    }
    let (report, failed) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).about("pipe")?;
    match child::fork().about("fork")? {
        Side::Child => {
            let slave = terminal.as_ref().map(|(_, slave)| slave);
            let refusal = ready.become_program(slave, stdio);
            let text = format!("{}\n{}", refusal.errno, refusal.message);
            // The parent is there: it reads until this process's end closes the pipe.
            let _ = rustix::io::write(&failed, text.as_bytes());
            child::exit_now(127)
        }
        Side::Parent(pid) => {
            drop(failed);
            read_report(report)?;
            Ok(Started {
                pid,
                terminal: terminal.map(|(master, _)| master),
            })
        }
    }
}

/// End of stream: it was executed. Else why it was not; the child is reaped as any other.
fn read_report(report: OwnedFd) -> Answer<()> {
    let mut text = String::new();
    std::fs::File::from(report)
        .read_to_string(&mut text)
        .about("report of the child")?;
    match text.split_once('\n') {
        None => Ok(()),
        Some((errno, message)) => Err(Refusal::new(errno.parse().unwrap_or(libc::EIO), message)),
    }
}

fn open_terminal(size: Size) -> Answer<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).about("/dev/pts/ptmx")?;
    unlockpt(&master).about("unlock the terminal")?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .about("open the terminal")?;
    resize(&master, size.columns, size.rows)?;
    Ok((master, slave))
}

/// Sets a terminal's size, which sends SIGWINCH to its foreground programs.
pub(crate) fn resize(terminal: &impl AsFd, columns: u16, rows: u16) -> Answer<()> {
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).about("terminal size")
}

/// All that the child needs, made before the clone: it must not allocate much, and errors are easier to tell here.
struct Ready {
    args: Vec<CString>,
    env: Vec<CString>,
    candidates: Vec<CString>,
    cwd: String,
    credentials: Credentials,
}

impl Ready {
    fn new(program: &Program) -> Answer<Self> {
        let user = program.user.as_deref().map(users::find).transpose()?;
        let name = program
            .args
            .first()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Refusal::new(libc::EINVAL, "no program to execute"))?;
        let mut env = program.env.clone();
        if let Some(user) = &user {
            add_default(&mut env, "HOME", &user.home);
            add_default(&mut env, "USER", user.name.as_deref().unwrap_or_default());
        }
        let path = env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH);
        let candidates = candidates(name, path)?;
        Ok(Self {
            args: c_strings(&program.args)?,
            env: c_strings(&env)?,
            candidates,
            cwd: program.cwd.clone(),
            credentials: credentials_of(user),
        })
    }

    /// Returns only on failure.
    fn become_program(&self, terminal: Option<&OwnedFd>, stdio: &[OwnedFd]) -> Refusal {
        match self.prepare(terminal, stdio) {
            Ok(()) => self.execute(),
            Err(refusal) => refusal,
        }
    }

    fn prepare(&self, terminal: Option<&OwnedFd>, stdio: &[OwnedFd]) -> Answer<()> {
        rustix::process::setsid().about("setsid")?;
        if let Some(slave) = terminal {
            rustix::process::ioctl_tiocsctty(slave).about("controlling terminal")?;
            connect(slave, slave, slave)?;
        } else if let [input, output, error] = stdio {
            connect(input, output, error)?;
        }
        credentials::apply(&self.credentials)
            .map_err(|error| Refusal::new(libc::EPERM, error.to_string()))?;
        rustix::process::chdir(self.cwd.as_str())
            .about(&format!("working directory {}", self.cwd))?;
        process::close_range_on_exec(3).about("close_range")?;
        process::reset_signals();
        Ok(())
    }

    /// As execvp(3): the first candidate that can be executed; EACCES is told only if none could.
    fn execute(&self) -> Refusal {
        let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in &self.candidates {
            let error = process::execve(candidate, &self.args, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => worst = error,
                _ => return Refusal::io(&candidate.to_string_lossy(), &error),
            }
        }
        Refusal::io(&self.args[0].to_string_lossy(), &worst)
    }
}

fn connect(input: &OwnedFd, output: &OwnedFd, error: &OwnedFd) -> Answer<()> {
    // The agent's own 0-2 are /dev/null, so none of these can be one of the targets.
    rustix::stdio::dup2_stdin(input).about("stdin")?;
    rustix::stdio::dup2_stdout(output).about("stdout")?;
    rustix::stdio::dup2_stderr(error).about("stderr")
}

fn credentials_of(user: Option<User>) -> Credentials {
    let (uid, gid, groups) =
        user.map_or((0, 0, Vec::new()), |user| (user.uid, user.gid, user.groups));
    Credentials {
        uid,
        gid,
        groups: Some(groups),
        umask: Some(0o022),
        capabilities: None,
    }
}

fn candidates(name: &str, path: &str) -> Answer<Vec<CString>> {
    if name.contains('/') {
        return c_strings(&[name.to_owned()]);
    }
    let in_directory = |directory: &str| {
        format!(
            "{}/{name}",
            if directory.is_empty() { "." } else { directory }
        )
    };
    c_strings(&path.split(':').map(in_directory).collect::<Vec<_>>())
}

fn c_strings(texts: &[String]) -> Answer<Vec<CString>> {
    let convert = |text: &String| {
        CString::new(text.as_str())
            .map_err(|_| Refusal::new(libc::EINVAL, format!("NUL byte in {text:?}")))
    };
    texts.iter().map(convert).collect()
}

fn add_default(env: &mut Vec<String>, name: &str, value: &str) {
    let prefix = format!("{name}=");
    if !value.is_empty() && !env.iter().any(|entry| entry.starts_with(&prefix)) {
        env.push(prefix + value);
    }
}

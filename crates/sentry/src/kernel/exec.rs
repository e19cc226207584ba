//! execve(2) up to the point of no return: finding the program, its interpreters, and what it is to see. Linux: fs/exec.c, fs/binfmt_script.c.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::Kernel;
use super::credentials::{Credentials, MAY_EXEC};
use super::elf::Elf;
use super::identity::{FileCapabilities, Program};
use crate::errno::{Errno, Result};
use crate::vfs::place::Place;
use crate::vfs::walk::Walker;

/// Nested `#!` lines. Linux: exec_binprm().
const MAX_SCRIPTS: u32 = 5;
/// Bytes looked at for a `#!` line. Linux: BINPRM_BUF_SIZE.
const SCRIPT_LINE: usize = 256;
const MAX_INTERPRETER_NAME: u64 = 4096;
/// Arguments and environment together: a quarter of the usual stack limit. execve(2), "Limits on size".
pub const MAX_STRINGS: usize = 2 << 20;

/// A file to map: its headers and a descriptor of it.
#[derive(Debug)]
pub struct Binary {
    pub elf: Elf,
    pub fd: OwnedFd,
}

/// A program about to be loaded.
#[derive(Debug)]
pub struct Image {
    pub program: Binary,
    pub interpreter: Option<Binary>,
    pub arguments: Vec<Vec<u8>>,
    pub environment: Vec<Vec<u8>>,
    /// AT_EXECFN: the name as it was given.
    pub file_name: Vec<u8>,
    /// The program's path, for /proc/PID/exe.
    pub path: Vec<u8>,
    pub credentials: Arc<Credentials>,
    /// AT_SECURE: set-id.
    pub is_secure: bool,
    pub state: super::load::State,
    /// Its place, for the link itself.
    pub place: Place,
}

impl Image {
    /// What prctl(PR_GET_NAME) says of it: the last component, 15 bytes.
    #[must_use]
    pub fn command_name(&self) -> Vec<u8> {
        let name = self
            .file_name
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or(b"");
        name[..name.len().min(15)].to_vec()
    }
}

/// Prepares the program at `place`. `name` is how the caller called it.
pub fn prepare(
    walker: &Walker<'_>,
    place: Place,
    name: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<Image> {
    let mut arguments = if arguments.is_empty() {
        vec![Vec::new()]
    } else {
        arguments
    };
    let mut place = place;
    let mut name = name.to_vec();
    let file_name = name.clone();
    let mut scripts = 0;
    loop {
        let fd = open_executable(walker, &place)?;
        let mut start = vec![0; 4096];
        let count = read_at(&fd, &mut start, 0)?;
        start.truncate(count);
        if start.starts_with(b"#!") {
            scripts += 1;
            if scripts > MAX_SCRIPTS {
                return Err(Errno::ELOOP);
            }
            let (interpreter, argument) = script_line(&start)?;
            let mut prefix = vec![interpreter.clone()];
            prefix.extend(argument);
            prefix.push(name);
            arguments.splice(..1, prefix);
            place = walker.resolve(&walker.context.cwd, &interpreter, true)?;
            name = interpreter;
            continue;
        }
        let path = place.path(walker.kernel)?;
        let file = program_file(walker, &place, &fd)?;
        let (credentials, is_secure) = walker.credentials.after_exec(&file);
        let program = read_binary(fd, &start)?;
        let interpreter = match program.elf.interpreter {
            Some(at) => Some(load_interpreter(walker, &program, at)?),
            None => None,
        };
        return Ok(Image {
            program,
            interpreter,
            arguments,
            environment,
            file_name,
            path,
            credentials: Arc::new(credentials),
            is_secure,
            state: super::load::State::Start,
            place,
        });
    }
}

fn open_executable(walker: &Walker<'_>, place: &Place) -> Result<OwnedFd> {
    let attributes = place.attributes(walker.kernel)?;
    if attributes.kind() != libc::S_IFREG {
        return Err(Errno::EACCES);
    }
    if attributes.mode & 0o111 == 0
        || !walker
            .credentials
            .may(MAY_EXEC, attributes.mode, attributes.uid, attributes.gid)
    {
        return Err(Errno::EACCES);
    }
    let fd = place.host().map_err(|_| Errno::EACCES)?;
    if rustix::fs::fstatvfs(fd)?
        .f_flag
        .contains(rustix::fs::StatVfsMountFlags::NOEXEC)
    {
        return Err(Errno::EACCES);
    }
    walker.kernel.reopen(fd, OFlags::RDONLY)
}

fn read_at(fd: &OwnedFd, into: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let count = rustix::io::pread(fd, &mut into[done..], offset + done as u64)?;
        if count == 0 {
            break;
        }
        done += count;
    }
    Ok(done)
}

fn read_binary(fd: OwnedFd, start: &[u8]) -> Result<Binary> {
    let (offset, len) = Elf::table_of(start)?;
    let mut table = vec![0; len];
    if read_at(&fd, &mut table, offset)? < len {
        return Err(Errno::ENOEXEC);
    }
    Ok(Binary {
        elf: Elf::parse(start, &table)?,
        fd,
    })
}

fn load_interpreter(
    walker: &Walker<'_>,
    program: &Binary,
    (offset, len): (u64, u64),
) -> Result<Binary> {
    if !(2..=MAX_INTERPRETER_NAME).contains(&len) {
        return Err(Errno::ENOEXEC);
    }
    let mut name = vec![0; len as usize];
    if read_at(&program.fd, &mut name, offset)? < name.len() || name.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    let place = walker.resolve(&walker.context.cwd, &name, true)?;
    let fd = open_executable(walker, &place)?;
    let mut start = vec![0; 4096];
    let count = read_at(&fd, &mut start, 0)?;
    start.truncate(count);
    read_binary(fd, &start).map_err(|_| Errno(libc::ELIBBAD))
}

/// Interpreter and its one optional argument. Linux: load_script().
fn script_line(start: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let line = &start[2..start.len().min(SCRIPT_LINE)];
    let end = line.iter().position(|byte| *byte == b'\n');
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let line = match end {
        Some(end) => &line[..end],
        // Cut off within the interpreter's own name: not to be guessed.
        None if start.len() >= SCRIPT_LINE
            && !line.iter().skip_while(|byte| is_blank(byte)).any(is_blank) =>
        {
            return Err(Errno::ENOEXEC);
        }
        None => line,
    };
    let line = line
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or(b"")
        .trim_ascii();
    let cut = line.iter().position(is_blank).unwrap_or(line.len());
    if cut == 0 {
        return Err(Errno::ENOEXEC);
    }
    let argument = line[cut..].trim_ascii();
    Ok((
        line[..cut].to_vec(),
        (!argument.is_empty()).then(|| argument.to_vec()),
    ))
}

/// What the program's file says about who it runs as. A script's own bits mean nothing: its interpreter's count.
fn program_file(walker: &Walker<'_>, place: &Place, fd: &OwnedFd) -> Result<Program> {
    let attributes = place.attributes(walker.kernel)?;
    let flags = rustix::fs::fstatvfs(fd)?.f_flag;
    let mut bytes = [0; 24];
    let capabilities = rustix::fs::fgetxattr(fd, "security.capability", &mut bytes[..]).ok();
    Ok(Program {
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        honours_set_id: !flags.contains(rustix::fs::StatVfsMountFlags::NOSUID),
        capabilities: capabilities.and_then(|count| FileCapabilities::parse(&bytes[..count])),
    })
}

impl Kernel {
    /// The image is ready: the thread's stub is made to execute the loader.
    pub fn begin_exec(&mut self, tid: i32, image: Image) -> Result<()> {
        self.task_mut(tid)?.image = Some(Box::new(image));
        self.kick(tid);
        Ok(())
    }
}

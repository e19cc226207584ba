//! execve(2) up to the point of no return: finding the program, its interpreters, and what it is to see. Linux: fs/exec.c, fs/binfmt_script.c.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{OFlags, StatVfsMountFlags};

use super::Kernel;
use super::credentials::{Credentials, MAY_EXEC};
use super::elf::Elf;
use super::identity::{FileCapabilities, Program};
use super::programs::{self, Contents};
use crate::errno::{Errno, Result};
use crate::syscalls::Found;
use crate::vfs::attributes::Attributes;
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
    pub elf: Arc<Elf>,
    pub fd: Arc<OwnedFd>,
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
    /// Device and inode: nobody may write to it.
    pub identity: (u64, u64),
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
    prepare_found(walker, Found::Place(place), name, arguments, environment)
}

/// As `prepare`, of what a walk found.
pub fn prepare_found(
    walker: &Walker<'_>,
    found: Found<'_>,
    name: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<Image> {
    let mut arguments = if arguments.is_empty() {
        vec![Vec::new()]
    } else {
        arguments
    };
    let mut name = name.to_vec();
    let file_name = name.clone();
    let (mut file, mut attributes) = find_program(walker, &found)?;
    let mut scripts = 0;
    while let Contents::Script(interpreter, argument) = &file.contents {
        scripts += 1;
        if scripts > MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        let interpreter = interpreter.clone();
        let mut prefix = vec![interpreter.clone()];
        prefix.extend(argument.clone());
        prefix.push(name);
        arguments.splice(..1, prefix);
        let found = walker.find(&walker.context.cwd, &interpreter, true)?;
        (file, attributes) = find_program(walker, &found)?;
        drop(found);
        name = interpreter;
    }
    let Contents::Elf(elf, wanted) = &file.contents else {
        return Err(Errno::ENOEXEC);
    };
    // Whoever could look into a program of more rights would have them. Linux: bprm_caps_from_vfs_caps(), LSM_UNSAFE_PTRACE.
    let may_gain = walker.kernel.tracer_may_see_more(walker.tid);
    let place = Place::Host(file.fd.clone());
    let path = place.path(walker.kernel)?;
    let (credentials, is_secure) = walker.credentials.after_exec(&Program {
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        honours_set_id: may_gain && !file.mount_flags.contains(StatVfsMountFlags::NOSUID),
        capabilities: file.capabilities.filter(|_| may_gain),
    });
    let interpreter = match wanted {
        Some(name) => Some(load_interpreter(walker, name)?),
        None => None,
    };
    Ok(Image {
        program: Binary {
            elf: elf.clone(),
            fd: file.fd.clone(),
        },
        interpreter,
        arguments,
        environment,
        file_name,
        path,
        credentials: Arc::new(credentials),
        is_secure,
        state: super::load::State::Start,
        place,
        identity: (attributes.dev, attributes.ino),
    })
}

/// The program's file, if the caller may execute it.
fn find_program(
    walker: &Walker<'_>,
    found: &Found<'_>,
) -> Result<(Arc<programs::Program>, Attributes)> {
    let kernel = walker.kernel;
    let attributes = match found {
        Found::Spot(spot) => kernel.files.attributes(spot)?,
        Found::Place(place) => place.attributes(kernel)?,
    };
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
    if kernel.files.has_writer(&attributes) {
        return Err(Errno::ETXTBSY);
    }
    // A file that somebody may be writing to is read anew.
    let is_settled = !kernel.files.is_written(&attributes);
    if is_settled && let Some(program) = kernel.executed.get(&attributes) {
        kernel.files.was_read(&attributes);
        return Ok((program, attributes));
    }
    let place = match found {
        Found::Spot(spot) => kernel.files.place(spot)?,
        Found::Place(place) => place.clone(),
    };
    let program = Arc::new(read_program(kernel, &place)?);
    kernel.files.was_read(&attributes);
    if is_settled {
        kernel.executed.add(&attributes, &program);
    }
    Ok((program, attributes))
}

fn read_program(kernel: &Kernel, place: &Place) -> Result<programs::Program> {
    let fd = place.host().map_err(|_| Errno::EACCES)?;
    let mount_flags = rustix::fs::fstatvfs(fd)?.f_flag;
    if mount_flags.contains(StatVfsMountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    let fd = kernel.reopen(fd, OFlags::RDONLY)?;
    let mut start = vec![0; 4096];
    let count = read_at(&fd, &mut start, 0)?;
    start.truncate(count);
    let contents = if start.starts_with(b"#!") {
        let (interpreter, argument) = script_line(&start)?;
        Contents::Script(interpreter, argument)
    } else {
        let elf = read_elf(&fd, &start)?;
        let interpreter = match elf.interpreter {
            Some(at) => Some(interpreter_name(&fd, at)?),
            None => None,
        };
        Contents::Elf(Arc::new(elf), interpreter)
    };
    let mut bytes = [0; 24];
    let capabilities = rustix::fs::fgetxattr(&fd, "security.capability", &mut bytes[..]).ok();
    Ok(programs::Program {
        fd: Arc::new(fd),
        contents,
        mount_flags,
        capabilities: capabilities.and_then(|count| FileCapabilities::parse(&bytes[..count])),
    })
}

fn read_at(fd: &OwnedFd, into: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let count = crate::host::pread(fd, &mut into[done..], offset + done as u64)?;
        if count == 0 {
            break;
        }
        done += count;
    }
    Ok(done)
}

fn read_elf(fd: &OwnedFd, start: &[u8]) -> Result<Elf> {
    let (offset, len) = Elf::table_of(start)?;
    let mut table = vec![0; len];
    if read_at(fd, &mut table, offset)? < len {
        return Err(Errno::ENOEXEC);
    }
    Elf::parse(start, &table)
}

fn interpreter_name(fd: &OwnedFd, (offset, len): (u64, u64)) -> Result<Vec<u8>> {
    if !(2..=MAX_INTERPRETER_NAME).contains(&len) {
        return Err(Errno::ENOEXEC);
    }
    let mut name = vec![0; len as usize];
    if read_at(fd, &mut name, offset)? < name.len() || name.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    Ok(name)
}

fn load_interpreter(walker: &Walker<'_>, name: &[u8]) -> Result<Binary> {
    let found = walker.find(&walker.context.cwd, name, true)?;
    let bad = |error| match error {
        Errno::ENOEXEC | Errno::EINVAL => Errno(libc::ELIBBAD),
        other => other,
    };
    let (file, _) = find_program(walker, &found).map_err(bad)?;
    match &file.contents {
        Contents::Elf(elf, _) => Ok(Binary {
            elf: elf.clone(),
            fd: file.fd.clone(),
        }),
        Contents::Script(..) => Err(Errno(libc::ELIBBAD)),
    }
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

impl Kernel {
    /// The image is ready: the thread's stub is made to execute the loader.
    pub fn begin_exec(&mut self, tid: i32, image: Image) -> Result<()> {
        self.task_mut(tid)?.image = Some(Box::new(image));
        self.kick(tid);
        Ok(())
    }
}

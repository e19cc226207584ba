//! Loading a prepared program into a fresh address space, by the loader's hands. Linux: fs/binfmt_elf.c load_elf_binary(), create_elf_tables().

use casemate_platform::loader::{self, Command};
use casemate_platform::notify::Call;

use super::Kernel;
use super::elf::{Elf, PAGE, Segment, round_up};
use super::exec::Image;
use super::task::Task;
use crate::errno::{Errno, Result};
use crate::memory::{Address, Memory, word};

/// How far the loading is.
#[derive(Debug, Clone, Default)]
pub enum State {
    #[default]
    Start,
    /// The room for the interpreter was asked for; the stack pointer the process began with, and what the host's kernel told it.
    Reserved { stack: u64, host: Vec<(u64, u64)> },
    Mapped {
        stack: u64,
        host: Vec<(u64, u64)>,
        base: u64,
        interpreter: u64,
    },
}

/// Where the loader finds the files. They stay, close-on-exec: nothing but a mapping that the sentry allows can use them.
const PROGRAM_FD: u32 = 4;
const INTERPRETER_FD: u32 = 5;
/// Where a movable program goes, before it is moved at random: as Linux's ELF_ET_DYN_BASE.
const MOVABLE_BASE: u64 = 0x5555_5555_4000;
const PRIVATE_FIXED: u64 = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
const ANONYMOUS: u64 = libc::MAP_ANONYMOUS as u64;
const NO_FD: u64 = u64::MAX;

impl Kernel {
    /// The loader in thread `tid` asks what to do (`magic::LOADER`). Answers how many commands were left for it.
    pub fn loader_asks(&mut self, call: &Call) -> Result<i64> {
        let mut image = self.task_mut(call.tid)?.image.take().ok_or(Errno::ENOSYS)?;
        let result = self.next_commands(call, &mut image);
        match result {
            Ok((commands, is_last)) => {
                let memory = Memory { tid: call.tid };
                memory.write(Address(loader::DATA), &loader::encode(&commands))?;
                if is_last {
                    self.process_of_mut(call.tid)?.is_loading = false;
                    self.look_again(call.tid);
                } else {
                    self.task_mut(call.tid)?.image = Some(image);
                }
                i64::try_from(commands.len()).map_err(|_| Errno::EINVAL)
            }
            Err(error) => Err(error),
        }
    }

    fn next_commands(&mut self, call: &Call, image: &mut Image) -> Result<(Vec<Command>, bool)> {
        let memory = Memory { tid: call.tid };
        match std::mem::take(&mut image.state) {
            State::Start => {
                self.point_of_no_return(call.tid, image)?;
                let stack = call.args[1];
                let host = read_auxiliary(memory, stack)?;
                self.listener.give_fd(
                    call.id,
                    std::os::fd::AsFd::as_fd(&image.program.fd),
                    PROGRAM_FD,
                    false,
                )?;
                let mut commands = install_handlers(memory)?;
                if let Some(interpreter) = &image.interpreter {
                    self.listener.give_fd(
                        call.id,
                        std::os::fd::AsFd::as_fd(&interpreter.fd),
                        INTERPRETER_FD,
                        false,
                    )?;
                    let (start, end) = interpreter.elf.span();
                    let flags = libc::MAP_PRIVATE as u64 | ANONYMOUS;
                    commands.push(map(0, end - start, 0, flags, NO_FD, 0));
                }
                image.state = State::Reserved { stack, host };
                Ok((commands, false))
            }
            State::Reserved { stack, host } => {
                let reserved = if image.interpreter.is_some() {
                    memory.read_u64(Address(loader::result_of(HANDLED.len())))?
                } else {
                    0
                };
                if reserved > u64::MAX - 4096 {
                    return Err(Errno::ENOMEM);
                }
                let base = if image.program.elf.is_movable {
                    movable_base(&image.program.elf)
                } else {
                    0
                };
                let mut commands = Vec::new();
                map_segments(
                    &image.program.elf,
                    base,
                    u64::from(PROGRAM_FD),
                    &mut commands,
                );
                let interpreter = match &image.interpreter {
                    Some(binary) => {
                        let shift = reserved.wrapping_sub(binary.elf.span().0);
                        map_segments(&binary.elf, shift, u64::from(INTERPRETER_FD), &mut commands);
                        shift
                    }
                    None => 0,
                };
                let size = stack_size(image);
                commands.push(Command::Touch {
                    address: stack.saturating_sub(size) & !15,
                });
                if commands.len() > loader::MAX_COMMANDS {
                    return Err(Errno::ENOEXEC);
                }
                image.state = State::Mapped {
                    stack,
                    host,
                    base,
                    interpreter,
                };
                Ok((commands, false))
            }
            State::Mapped {
                stack,
                host,
                base,
                interpreter,
            } => {
                clear_tails(memory, &image.program.elf, base);
                if let Some(binary) = &image.interpreter {
                    clear_tails(memory, &binary.elf, interpreter);
                }
                let (stack, auxiliary, strings_at) =
                    write_stack(memory, image, stack, &host, base, interpreter)?;
                let settings = &mut self.process_of_mut(memory.tid)?.settings;
                settings.auxiliary = auxiliary;
                settings.strings_at = strings_at;
                let limit = self.process_of(memory.tid)?.limits.0[libc::RLIMIT_STACK as usize].0;
                self.task(memory.tid)?.space.lock().stack = (stack, limit);
                let entry = match &image.interpreter {
                    Some(binary) => binary.elf.entry.wrapping_add(interpreter),
                    None => image.program.elf.entry.wrapping_add(base),
                };
                let entry = self.trace_program(memory.tid, entry);
                Ok((vec![Command::Jump { entry, stack }], true))
            }
        }
    }

    /// The old program is gone: what execve(2) resets is reset.
    fn point_of_no_return(&mut self, tid: i32, image: &Image) -> Result<()> {
        self.release_slot(tid);
        let task = self.task_mut(tid)?;
        task.space = super::task::Shared::new(crate::fast::Space::default());
        task.alternate_stack = (0, 0);
        task.is_refused_slot = false;
        task.wants_slot = false;
        task.detached = None;
        task.name = image.command_name();
        let old = std::mem::replace(&mut task.credentials, image.credentials.clone());
        let is_dumpable = task.credentials.is_dumpable_after(&old);
        if image.is_secure {
            task.parent_death_signal = 0;
        }
        task.is_kicked = false;
        task.interrupted = None;
        task.registers = None;
        if task.files.is_shared() {
            task.files = task.files.copy();
        }
        let closed = task.files.lock().exec();
        let (pid, uid) = (task.pid, task.credentials.uid);
        for description in &closed {
            description.file.flushed(self.owner_number(pid));
        }
        drop(closed);
        let process = self.process_mut(pid)?;
        if process.actions.is_shared() {
            process.actions = process.actions.copy();
        }
        process.actions.lock().reset_for_exec();
        process.executable.clone_from(&image.path);
        process.settings.executable = Some(image.place.clone());
        process.settings.executed = image.identity;
        process.settings.core_filter = None;
        process.settings.strings_at = 0;
        process.arguments = join(&image.arguments);
        process.environment = join(&image.environment);
        process.has_executed = true;
        process.timers.clear();
        process.uid = uid;
        process.dumpable = is_dumpable;
        self.let_creators_go();
        Ok(())
    }

    /// The process of an executing thread has no other threads any more, and the executing one has become its first. Linux: de_thread().
    pub fn become_only_thread(&mut self, tid: i32) {
        let Ok(process) = self.process_of(tid) else {
            return;
        };
        let others: Vec<i32> = process
            .threads
            .iter()
            .copied()
            .filter(|other| *other != tid)
            .collect();
        for other in others {
            self.trace_ends(other, 0, false);
            self.forget_task(other);
        }
        if let Ok(process) = self.process_of_mut(tid) {
            process.threads = vec![tid];
        }
    }

    /// The loader of a process runs as its first thread, whichever thread executed it: moves the image (and the thread's state) there.
    pub fn move_image_to_leader(&mut self, leader: i32) {
        if self
            .tasks
            .get(&leader)
            .is_some_and(|task| task.image.is_some())
        {
            return self.become_only_thread(leader);
        }
        let Ok(process) = self.process_of(leader) else {
            return;
        };
        let executing = process
            .threads
            .iter()
            .copied()
            .find(|tid| self.tasks.get(tid).is_some_and(|task| task.image.is_some()));
        let Some(executing) = executing else { return };
        let Some(mut task) = self.tasks.remove(&executing) else {
            return;
        };
        self.tids.remove(&task.tid);
        let tid = process_tid(self.tasks.get(&leader), task.pid);
        task.host_tid = leader;
        task.tid = tid;
        task.blocked = None;
        self.unblock(leader);
        self.tids.insert(tid, leader);
        self.tasks.insert(leader, task);
        self.trace_moved(executing, leader);
        self.become_only_thread(leader);
    }
}

fn process_tid(task: Option<&Task>, pid: i32) -> i32 {
    task.map_or(pid, |task| task.tid)
}

fn join(strings: &[Vec<u8>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for text in strings {
        joined.extend_from_slice(text);
        joined.push(0);
    }
    joined
}

fn map(address: u64, len: u64, protection: u64, flags: u64, fd: u64, offset: u64) -> Command {
    Command::Call {
        nr: libc::SYS_mmap,
        args: [address, len, protection, flags, fd, offset],
    }
}

/// Random, page-aligned, and such that the whole program stays far below the host's own mappings.
fn movable_base(elf: &Elf) -> u64 {
    let mut bytes = [0; 8];
    let _ = crate::host::random(&mut bytes);
    // 28 bits of pages, as Linux's default vm.mmap_rnd_bits.
    let random = (u64::from_le_bytes(bytes) & 0xFFF_FFFF) * PAGE;
    (MOVABLE_BASE + random).wrapping_sub(elf.span().0)
}

fn map_segments(elf: &Elf, shift: u64, fd: u64, commands: &mut Vec<Command>) {
    for segment in &elf.segments {
        let start = segment.start().wrapping_add(shift);
        let in_file = round_up(segment.address % PAGE + segment.file_len);
        if segment.file_len > 0 {
            let offset = segment.offset - segment.offset % PAGE;
            commands.push(map(
                start,
                in_file,
                segment.protection,
                PRIVATE_FIXED,
                fd,
                offset,
            ));
        }
        let total = round_up(segment.address % PAGE + segment.memory_len);
        let mapped = if segment.file_len > 0 { in_file } else { 0 };
        if total > mapped {
            commands.push(map(
                start + mapped,
                total - mapped,
                segment.protection,
                PRIVATE_FIXED | ANONYMOUS,
                NO_FD,
                0,
            ));
        }
    }
}

/// What lies behind a segment's file part in its last page is zero (bss).
fn clear_tails(memory: Memory, elf: &Elf, shift: u64) {
    for segment in &elf.segments {
        if segment.memory_len > segment.file_len
            && segment.protection & libc::PROT_WRITE as u64 != 0
        {
            clear_tail(memory, segment, shift);
        }
    }
}

fn clear_tail(memory: Memory, segment: &Segment, shift: u64) {
    let end = segment
        .address
        .wrapping_add(segment.file_len)
        .wrapping_add(shift);
    let rest = (PAGE - end % PAGE) % PAGE;
    // A file that ends before the page does leaves nothing to clear (and Linux ignores that too: padzero()).
    let _ = memory.write(Address(end), &vec![0; rest as usize]);
}

/// What the stub has handlers for: the kicks, and faults. All but the first go to the alternate stack.
const HANDLED: [i32; 8] = [
    loader::KICK,
    loader::KICK_ON_ALTERNATE_STACK,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

fn install_handlers(memory: Memory) -> Result<Vec<Command>> {
    const RESTORER: u64 = 0x0400_0000;
    const SIGINFO: u64 = 4;
    use super::signals::{SA_NODEFER, SA_ONSTACK, SA_RESTART};
    const TABLE: u64 = loader::DATA + 0xE00;
    let flags = SIGINFO | RESTORER | SA_RESTART | SA_NODEFER;
    let mut actions = Vec::new();
    for flags in [flags, flags | SA_ONSTACK] {
        for value in [loader::signal_handler(), flags, loader::restorer(), 0] {
            actions.extend(value.to_le_bytes());
        }
    }
    memory.write(Address(TABLE), &actions)?;
    let call = |signal: i32| {
        let action = if signal == loader::KICK {
            TABLE
        } else {
            TABLE + 32
        };
        Command::Call {
            nr: libc::SYS_rt_sigaction,
            args: [signal as u64, action, 0, 8, 0, 0],
        }
    };
    Ok(HANDLED.into_iter().map(call).collect())
}

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
/// Entries that are the host's to tell: page size, clock ticks, processor features, random bytes, the vdso, rseq, signal stack size.
const FROM_HOST: [u64; 11] = [6, 16, 17, AT_RANDOM, 26, 27, 28, 29, 30, 33, 51];

/// The host's auxiliary vector, which lies behind the (empty) arguments at the first stack pointer.
fn read_auxiliary(memory: Memory, stack: u64) -> Result<Vec<(u64, u64)>> {
    let mut bytes = vec![0; 1024];
    let count = casemate_platform::memory::read(memory.tid, stack, &mut bytes)?;
    let words: Vec<u64> = (0..count / 8)
        .map(|index| word(&bytes, 8 * index))
        .collect();
    let mut rest = words.get(1..).ok_or(Errno::EFAULT)?;
    for _ in 0..2 {
        let end = rest
            .iter()
            .position(|value| *value == 0)
            .ok_or(Errno::EFAULT)?;
        rest = &rest[end + 1..];
    }
    Ok(rest
        .chunks_exact(2)
        .take_while(|pair| pair[0] != AT_NULL)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

/// A kick may find the loader before it jumps: its frame lies here, above the program's stack. The largest that Linux makes (11 KiB, of which AMX 8) fits.
const FRAME: u64 = 16 << 10;

/// At least as much as `write_stack` uses.
fn stack_size(image: &Image) -> u64 {
    let strings: usize = image
        .arguments
        .iter()
        .chain(&image.environment)
        .map(|text| text.len() + 9)
        .sum();
    FRAME + (strings + image.file_name.len() + 1024) as u64
}

/// Writes strings, auxiliary vector, environment, arguments and their count below `stack`; returns the stack pointer, the vector's bytes, and
/// where the arguments lie.
fn write_stack(
    memory: Memory,
    image: &Image,
    stack: u64,
    host: &[(u64, u64)],
    base: u64,
    interpreter: u64,
) -> Result<(u64, Vec<u8>, u64)> {
    let mut strings = b"x86_64\0".to_vec();
    let mut places = Vec::new();
    for text in image
        .arguments
        .iter()
        .chain(&image.environment)
        .chain([&image.file_name])
    {
        places.push(strings.len() as u64);
        strings.extend_from_slice(text);
        strings.push(0);
    }
    let strings_at = (stack - FRAME - strings.len() as u64) & !15;
    let place = |index: usize| places.get(index).map_or(0, |offset| strings_at + offset);
    let argument_count = image.arguments.len();
    let mut words = vec![argument_count as u64];
    words.extend((0..argument_count).map(place));
    words.push(0);
    words.extend((argument_count..argument_count + image.environment.len()).map(place));
    words.push(0);
    let auxiliary_at = words.len();
    for (key, value) in host.iter().filter(|(key, _)| FROM_HOST.contains(key)) {
        words.extend([*key, *value]);
    }
    let who = &image.credentials;
    for (key, value) in [
        (AT_PHDR, image.program.elf.table.wrapping_add(base)),
        (AT_PHENT, 56),
        (AT_PHNUM, image.program.elf.entries),
        (
            AT_BASE,
            if image.interpreter.is_some() {
                interpreter
            } else {
                0
            },
        ),
        (AT_FLAGS, 0),
        (AT_ENTRY, image.program.elf.entry.wrapping_add(base)),
        (AT_UID, u64::from(who.uid)),
        (AT_EUID, u64::from(who.euid)),
        (AT_GID, u64::from(who.gid)),
        (AT_EGID, u64::from(who.egid)),
        (AT_SECURE, u64::from(image.is_secure)),
        (AT_PLATFORM, strings_at),
        (AT_EXECFN, place(places.len() - 1)),
        (AT_NULL, 0),
    ] {
        words.extend([key, value]);
    }
    let stack = (strings_at - 8 * words.len() as u64) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes.resize((strings_at - stack) as usize, 0);
    bytes.extend_from_slice(&strings);
    memory.write(Address(stack), &bytes)?;
    let auxiliary = bytes.get(8 * auxiliary_at..8 * words.len());
    let auxiliary = auxiliary.unwrap_or_default().to_vec();
    Ok((stack, auxiliary, place(0)))
}

//! The loader: the tiny program that every process of a sandbox natively executes, and the stub that stays mapped in it.
//!
//! On the host's side each execve(2) of a program is one execveat of this. It asks the sentry (`magic::LOADER`) for commands, native calls to make in the new
//! address space, until one of them jumps into the program. So no file format is parsed, and no decision taken, inside the program's process.
//! The stub is the handler of the few native signals: it asks (`magic::DELIVER`) which of the program's handlers to enter on the frame that the host's
//! kernel built. Both are position-dependent data here: copied to `BASE` by the ELF file made below.

use std::arch::global_asm;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::check;

/// Where the code page lies in each process; the data page follows. Far from where Linux puts programs (0x400000, 0x55.., 0x7f..), and brk starts behind it.
pub const BASE: u64 = 0x5000_0000_0000;
pub const PAGE: u64 = 0x1000;
/// The page of commands.
pub const DATA: u64 = BASE + PAGE;
/// The first address behind what is ours.
pub const END: u64 = BASE + 3 * PAGE;
/// The page where the stub finds a thread's slot. It is empty in a forked child (MADV_WIPEONFORK).
pub const TABLE: u64 = BASE + 2 * PAGE;
/// Where the stub finds uid, gid, euid and egid, each plus one; 0 where it has to ask.
pub const IDS: u64 = DATA + 0xF00;
/// Whether the stub may make a clone(2) of a clone3(2): 1, or 0.
pub const CLONES: u64 = DATA + 0xF20;
/// How far below its stack either side of such a clone finds its registers: beyond the red zone.
pub const BELOW: u64 = 192;
/// Not 0: a thread that is about to wait for a word may look at it for a while first (fast.s).
pub const LOOKS: u64 = DATA + 0xFA0;
/// How many commands the stub is to run.
const COUNT: u64 = DATA + 0xFF0;
/// Where in the code page the classes of calls lie (see `fast::classes`).
const CLASSES: usize = 0xE00;
/// The descriptor that the stub and the zygote execute: given just before.
pub const LOADER_FD: u32 = 3;
/// `magic::DELIVER`'s answers other than a handler's address: return from the frame; execute the loader.
pub const RETURN: i64 = 0;
pub const EXECUTE: i64 = 1;
/// Run the commands at `DATA`, as many as `COUNT` says, and ask again, with the thread's FS base as the fourth argument.
pub const COMMANDS: i64 = 2;
/// A traced thread's (`kernel/ptrace` of the sentry): leave the FS and the GS base in the frame (`BASES`), or take them from there, and ask again.
pub const TELL_BASES: i64 = 3;
pub const TAKE_BASES: i64 = 4;
/// Have each system call outside of the stub's page trap (prctl(2), PR_SET_SYSCALL_USER_DISPATCH), or no longer, and ask again.
pub const TRAP_CALLS: i64 = 5;
pub const LET_CALLS: i64 = 6;
/// Where in `struct ucontext` the stub leaves both bases: the words of `struct sigcontext` that Linux reserves and never looks at.
pub const BASES: u64 = 232;
/// The native signals that make a thread ask: the first keeps to its stack, the second goes to its alternate one (SA_ONSTACK), as the program's handler wants.
pub const KICK: i32 = 63;
pub const KICK_ON_ALTERNATE_STACK: i32 = 64;
/// Behind them lie what the stub knows of yields (`fast.s`), from 0xD00 on, and the words above.
pub const MAX_COMMANDS: usize = 52;

global_asm!(
    r#"
    .pushsection .rodata.casemate_loader, "a"
    .balign 16
    .globl casemate_loader_start, casemate_stub_signal, casemate_stub_asked, casemate_stub_entered, casemate_stub_traced, casemate_stub_left, casemate_stub_restorer, casemate_stub_clone, casemate_loader_end
casemate_loader_start:
    mov rbp, rsp
    lea rbx, [rip + casemate_loader_start + 0x1000]
2:  mov eax, 0x2001
    mov rdi, rbx
    mov rsi, rbp
    syscall
    mov r12, rax
    mov r13, rbx
3:  test r12, r12
    jle 2b
    mov rax, [r13]
    cmp rax, -1
    je 5f
    cmp rax, -2
    je 4f
    mov rdi, [r13 + 8]
    mov rsi, [r13 + 16]
    mov rdx, [r13 + 24]
    mov r10, [r13 + 32]
    mov r8, [r13 + 40]
    mov r9, [r13 + 48]
    syscall
    mov [r13 + 56], rax
    add r13, 64
    dec r12
    jmp 3b
4:  mov rax, [r13 + 8]
    mov byte ptr [rax], 0
    add r13, 64
    dec r12
    jmp 3b
5:  mov rsp, [r13 + 16]
    mov rax, [r13 + 8]
    mov [rbx + 0xff8], rax
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    jmp qword ptr [rip + casemate_loader_start + 0x1ff8]

    .balign 16
casemate_stub_signal:
    mov eax, 0x2002
    syscall
casemate_stub_asked:
    test rax, rax
    jz 6f
    cmp rax, 1
    je 7f
    cmp rax, 2
    je 9f
    cmp rax, 6
    jbe 33f
    mov edi, [rsi]
    jmp rax
casemate_stub_entered:
6:  add rsp, 8
    mov rax, 15
    syscall
casemate_stub_left:
7:  mov r9, rdx
    lea rsi, [rip + 8f]
    push 0
    push rsi
    mov rdx, rsp
    lea r10, [rsp + 8]
    mov edi, 3
    mov r8d, 0x1000
    mov eax, 322
    syscall
    add rsp, 16
    mov [r9 + 144], rax
    jmp 6b
8:  .byte 0
9:  mov rbx, rdi
    mov rbp, rsi
    mov r15, rdx
    lea r13, [rip + casemate_loader_start + 0x1000]
    mov r12, [r13 + 0xff0]
30: test r12, r12
    jle 32f
    mov rax, [r13]
    mov rdi, [r13 + 8]
    mov rsi, [r13 + 16]
    mov rdx, [r13 + 24]
    mov r10, [r13 + 32]
    mov r8, [r13 + 40]
    mov r9, [r13 + 48]
    syscall
    mov [r13 + 56], rax
    add r13, 64
    dec r12
    jmp 30b
32: mov rdi, rbx
    mov rsi, rbp
    mov rdx, r15
    rdfsbase r10
    jmp casemate_stub_signal
33: cmp rax, 4
    je 34f
    ja 35f
    rdfsbase rax
    mov [rdx + 232], rax
    rdgsbase rax
    mov [rdx + 240], rax
    jmp casemate_stub_signal
34: mov rax, [rdx + 232]
    wrfsbase rax
    mov rax, [rdx + 240]
    wrgsbase rax
    jmp casemate_stub_signal
35: mov rbx, rdi
    mov rbp, rsi
    mov r15, rdx
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    cmp rax, 5
    jne 36f
    mov esi, 1
    lea rdx, [rip + casemate_loader_start]
    mov r10d, 0x1000
36: mov edi, 59
    mov eax, 157
    syscall
    mov rdi, rbx
    mov rsi, rbp
    mov rdx, r15
    jmp casemate_stub_signal

    .balign 16
casemate_stub_traced:
    syscall
    int3
    ud2

    .balign 16
casemate_stub_restorer:
    mov rax, 15
    syscall

    .balign 16
casemate_stub_clone:
    syscall
    mov rdi, rax
    mov eax, 0x2004
    syscall
    ud2
    "#,
    include_str!("fast.s"),
    include_str!("answers.s"),
    include_str!("windows.s"),
    include_str!("clone3.s"),
    r#"
casemate_loader_end:
    .popsection
    "#
);

unsafe extern "C" {
    static casemate_loader_start: u8;
    static casemate_stub_signal: u8;
    static casemate_stub_asked: u8;
    static casemate_stub_entered: u8;
    static casemate_stub_traced: u8;
    static casemate_stub_left: u8;
    static casemate_stub_restorer: u8;
    static casemate_stub_clone: u8;
    static casemate_clone3_make: u8;
    static casemate_clone3_made: u8;
    #[cfg(test)]
    static casemate_clone3_end: u8;
    static casemate_loader_end: u8;
}

pub(crate) fn offset(symbol: *const u8) -> u64 {
    (symbol.addr() - (&raw const casemate_loader_start).addr()) as u64
}

/// The address of the stub's signal handler in each process.
#[must_use]
pub fn signal_handler() -> u64 {
    BASE + offset(&raw const casemate_stub_signal)
}

/// The instruction pointer of the rt_sigreturn(2) by which the stub leaves a frame that no handler ran on, as the host's kernel reports it. The restorer's are
/// those of handlers.
#[must_use]
pub fn frame_left() -> u64 {
    BASE + offset(&raw const casemate_stub_left)
}

/// The address of the stub's `mov $15, %rax; syscall`, the bytes by which unwinders know a signal frame.
#[must_use]
pub fn restorer() -> u64 {
    BASE + offset(&raw const casemate_stub_restorer)
}

/// The address where a thread makes the clone that the sentry gave it the registers for, and asks on either side what to return to (`magic::CLONED`).
#[must_use]
pub fn clone_again() -> u64 {
    BASE + offset(&raw const casemate_stub_clone)
}

/// As `clone_again`, but that either side restores its registers by itself: rdi, rsi, rdx, r10, r8 and two less than where it goes on lie at its stack
/// pointer, `BELOW` under what that is to be.
#[must_use]
pub fn clone_plainly() -> u64 {
    BASE + offset(&raw const casemate_clone3_make)
}

/// The instruction pointer of that clone, as the host's kernel reports it.
#[must_use]
pub fn cloned_plainly() -> u64 {
    BASE + offset(&raw const casemate_clone3_made)
}

/// Where the stub makes a traced thread's system call, with registers that the sentry puts into a frame: the instruction itself.
#[must_use]
pub fn traced_call() -> u64 {
    BASE + offset(&raw const casemate_stub_traced)
}

/// The breakpoint behind it, by which the thread tells that the call is over; and where its instruction pointer is then.
#[must_use]
pub fn traced_trap() -> u64 {
    traced_call() + 2
}

/// How far a kick found its thread in the handler of another frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nested {
    /// It has yet to ask, or to leave that frame.
    Within,
    /// It has the answer: rax is a handler's address, if it is none of the answers above.
    Answered,
}

#[must_use]
pub fn nested(ip: u64) -> Option<Nested> {
    let at = |label: *const u8| BASE + offset(label);
    if (at(&raw const casemate_stub_asked)..at(&raw const casemate_stub_entered)).contains(&ip) {
        return Some(Nested::Answered);
    }
    let all = at(&raw const casemate_stub_signal)..at(&raw const casemate_stub_traced);
    all.contains(&ip).then_some(Nested::Within)
}

fn code() -> &'static [u8] {
    let start = &raw const casemate_loader_start;
    let len = offset(&raw const casemate_loader_end) as usize;
    // SAFETY: start and end are labels of one read-only section of this executable, in this order; nothing writes there.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The loader as an ELF executable in a sealed memfd.
///
/// # Errors
/// As memfd_create(2).
pub fn executable() -> io::Result<OwnedFd> {
    let mut image = header();
    image.resize(PAGE as usize, 0);
    image.extend_from_slice(code());
    image.resize(PAGE as usize + CLASSES, 0);
    image.extend_from_slice(&crate::fast::classes());
    let file = memfd()?;
    let mut written = 0;
    while written < image.len() {
        let rest = &image[written..];
        // SAFETY: `rest` is readable for its length.
        let count = check(
            unsafe { libc::write(file.as_raw_fd(), rest.as_ptr().cast(), rest.len()) } as i64,
        )?;
        written += count as usize;
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())?;
    Ok(file)
}

fn memfd() -> io::Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let name = c"casemate";
    // SAFETY: the name is a C string.
    let mut fd = unsafe { libc::memfd_create(name.as_ptr(), flags | MFD_EXEC) };
    if fd < 0 {
        // Before Linux 6.3 there is no MFD_EXEC, and every memfd is executable.
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    }
    check(fd.into())?;
    // SAFETY: memfd_create returned a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// ELF header and three program headers: code, data, and a stack that is not executable. System V ABI, chapter 4.
fn header() -> Vec<u8> {
    let mut elf = vec![0x7F, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
    half(&mut elf, 2); // ET_EXEC
    half(&mut elf, 62); // EM_X86_64
    word(&mut elf, 1);
    long(&mut elf, BASE); // entry
    long(&mut elf, 64); // program headers
    long(&mut elf, 0);
    word(&mut elf, 0);
    for value in [64, 56, 3, 0, 0, 0] {
        half(&mut elf, value);
    }
    let mut segment = |kind: u32, flags: u32, offset: u64, address: u64, file: u64, memory: u64| {
        word(&mut elf, kind);
        word(&mut elf, flags);
        for value in [offset, address, address, file, memory, PAGE] {
            long(&mut elf, value);
        }
    };
    segment(1, 5, PAGE, BASE, PAGE, PAGE);
    segment(1, 6, 0, DATA, 0, 2 * PAGE);
    segment(0x6474_E551, 6, 0, 0, 0, 0); // PT_GNU_STACK
    elf
}

/// A command for the loader.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    /// A native call; its result is found at `result_of`.
    Call { nr: i64, args: [u64; 6] },
    /// Writes a byte 0: makes the stack grow to there.
    Touch { address: u64 },
    /// Leaves the loader for the program, registers cleared.
    Jump { entry: u64, stack: u64 },
}

/// The commands as the loader reads them at `DATA`.
#[must_use]
pub fn encode(commands: &[Command]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(commands.len() * 64);
    for command in commands {
        let words: [u64; 8] = match *command {
            Command::Call { nr, args } => {
                let [a, b, c, d, e, f] = args;
                [nr.cast_unsigned(), a, b, c, d, e, f, 0]
            }
            Command::Touch { address } => [u64::MAX - 1, address, 0, 0, 0, 0, 0, 0],
            Command::Jump { entry, stack } => [u64::MAX, entry, stack, 0, 0, 0, 0, 0],
        };
        for value in words {
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes
}

/// What is to be written where before the stub is answered `COMMANDS`.
#[must_use]
pub fn for_stub(commands: &[Command]) -> [(u64, Vec<u8>); 2] {
    let count = commands.len() as u64;
    [
        (DATA, encode(commands)),
        (COUNT, count.to_le_bytes().to_vec()),
    ]
}

/// The address at which the loader leaves the result of the command at `index`.
#[must_use]
pub fn result_of(index: usize) -> u64 {
    DATA + 64 * index as u64 + 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_path_s_switch_is_one_byte_of_a_jump() {
        let at = (crate::fast::switch() - BASE) as usize;
        let jump = &code()[at..at + 2];
        assert_eq!(jump[0], crate::fast::ANSWERS);
        let to = at
            .wrapping_add(2)
            .wrapping_add_signed(isize::from(jump[1].cast_signed()));
        // jmp rcx
        assert_eq!(code()[to..to + 2], [0xFF, 0xE1]);
    }

    #[test]
    fn the_code_leaves_room_for_its_tables() {
        assert!(offset(&raw const casemate_clone3_end) < CLASSES as u64);
        assert!(clone_plainly() < cloned_plainly());
    }
}

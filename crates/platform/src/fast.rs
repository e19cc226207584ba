//! The fast path's half in a program: patched call sites, trampolines, and what the stub of `fast.s` holds where. docs/decisions/2026-11-28-fast-path.md.
//!
//! A site `syscall` + three bytes, whatever they are, becomes a jump by writing one byte, e9 over 0f: 05 and the three bytes are its distance. Or by two, 67 e9,
//! where the distance is what follows them (the prefix means nothing): only for a single thread, since another could see one of the two. What follows
//! the site's two bytes is unchanged, so a thread that comes back there sees its own code, and other processors see either instruction, nothing between.

use crate::loader::{BASE, offset};

/// The instruction that a site begins with.
pub const SYSCALL: [u8; 2] = [0x0F, 0x05];
const JUMP: u8 = 0xE9;
/// Bytes of a site that decide where its jump can go.
pub const SITE_LEN: usize = 6;
pub const TRAMPOLINE_LEN: usize = 27;
/// Where in a trampoline its own syscall instruction lies: the call as the host's kernel sees it.
pub const SLOW: u64 = 20;
/// From a syscall instruction to the instruction pointer that the host's kernel reports.
pub const AFTER: u64 = 2;
/// Entries of the table at `loader::TABLE`: a slot's address and the thread's FS base, 16 bytes each.
pub const TABLE_ENTRY: u64 = 16;

unsafe extern "C" {
    static casemate_fast_away: u8;
    static casemate_fast_switch: u8;
    static casemate_fast_entry: u8;
    static casemate_fast_shifted: u8;
    static casemate_fast_packed: u8;
    static casemate_fast_saved: u8;
    static casemate_fast_kept: u8;
    static casemate_fast_done: u8;
    static casemate_fast_finished: u8;
    static casemate_fast_declined: u8;
    static casemate_fast_call: u8;
    static casemate_fast_called: u8;
    static casemate_fast_kept_away: u8;
    static casemate_fast_unpack: u8;
    static casemate_fast_leave: u8;
    #[cfg(test)]
    static casemate_fast_ids: u8;
    static casemate_fast_known: u8;
    static casemate_fast_answered: u8;
    static casemate_fast_line: u8;
    static casemate_fast_line_saved: u8;
    static casemate_fast_line_kept: u8;
    static casemate_fast_line_filling: u8;
    static casemate_fast_line_filled: u8;
    static casemate_fast_line_written: u8;
    static casemate_fast_line_read: u8;
    static casemate_fast_line_reading: u8;
    static casemate_fast_line_seen: u8;
    static casemate_fast_line_over: u8;
    static casemate_fast_line_back: u8;
    static casemate_fast_line_slow: u8;
    static casemate_fast_futex: u8;
    static casemate_fast_futex_over: u8;
    static casemate_fast_yields: u8;
    static casemate_fast_timed: u8;
    static casemate_fast_told: u8;
    static casemate_fast_yield: u8;
    static casemate_fast_yielded: u8;
    static casemate_answers: u8;
    static casemate_answers_over: u8;
    static casemate_answers_found: u8;
    static casemate_answers_ask: u8;
    static casemate_windows_sought: u8;
    static casemate_fast_end: u8;
}

/// How a site can be patched: what is written over its first bytes, and where it then jumps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub written: &'static [u8],
    pub target: u64,
}

/// The ways to patch a site, the better one first; none if what is there is no system call.
#[must_use]
pub fn ways(site: u64, bytes: [u8; SITE_LEN]) -> Vec<Way> {
    let [first, second, a, b, c, d] = bytes;
    if [first, second] != SYSCALL {
        return Vec::new();
    }
    let way = |written: &'static [u8], len: u64, distance: [u8; 4]| {
        let distance = i32::from_le_bytes(distance);
        let target = site.checked_add(len)?.checked_add_signed(distance.into())?;
        Some(Way { written, target })
    };
    [
        way(&[JUMP], 5, [second, a, b, c]),
        way(&[0x67, JUMP], 6, [a, b, c, d]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The trampoline at `at` of the site: tells the stub its own system call in rcx, which a jump behind the site follows. `None` if it lies too far off.
#[must_use]
pub fn trampoline(site: u64, at: u64) -> Option<[u8; TRAMPOLINE_LEN]> {
    let entry = BASE + offset(&raw const casemate_fast_entry);
    let mut code = [0; TRAMPOLINE_LEN];
    // lea rcx, [rip + 13]; mov r11, entry; jmp r11; syscall; jmp site + 2
    code[..7].copy_from_slice(&[0x48, 0x8D, 0x0D, 13, 0, 0, 0]);
    code[7..9].copy_from_slice(&[0x49, 0xBB]);
    code[9..17].copy_from_slice(&entry.to_le_bytes());
    code[17..20].copy_from_slice(&[0x41, 0xFF, 0xE3]);
    code[20..22].copy_from_slice(&SYSCALL);
    code[22] = JUMP;
    let back = site
        .wrapping_add(AFTER)
        .wrapping_sub(at)
        .wrapping_sub(TRAMPOLINE_LEN as u64);
    let back = i32::try_from(back.cast_signed()).ok()?;
    code[23..].copy_from_slice(&back.to_le_bytes());
    Some(code)
}

/// How far a call is whose thread stands in the stub, and where its registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not begun: rcx is the trampoline's system call, rax the number.
    Untouched,
    /// Not begun: rcx is the address `AFTER` the trampoline's system call, rax the number.
    Moved,
    /// Not begun: rcx is that address, shifted by 16 bits; rax the number.
    Shifted,
    /// Not begun: rcx is that address, shifted, and the number in the low bits.
    Packed,
    /// Not begun: the slot tells both, as in `Packed`.
    Saved,
    /// The slot tells all: its state how far the call is, and what rdi and rsi were.
    Kept,
    /// As `Kept`, and the result is being copied.
    Copying,
    /// About to be made as an ordinary call, which the slot carries data for; rbx is the slot, rax the number.
    Calling,
    /// That is over: rax is the result, unless the slot has one.
    Called,
    /// Not begun, its answer looked for (`answers`): the slot tells all, all arguments too.
    Looking,
    /// A position was changed if rax is what r10 is (`windows`): then the call is over.
    Sought,
    /// Over, and everything as in `Looking`: the slot tells the result, too.
    Answered,
    /// Done: rcx is the address `AFTER` the trampoline's system call, rax the result.
    Finished,
    /// futex(2), not begun: rcx is the trampoline's system call.
    Futex,
    /// sched_yield(2), not begun: rcx is the trampoline's system call, r11 what rdx was.
    Timed,
    /// As that, with rdx as it was.
    Told,
    /// As that, with rcx shifted by 16 bits.
    Yield,
    /// A line's call (`line`), not begun: the slot tells all, as of every later stage of one.
    LineKept,
    /// A message may be half in.
    LineFilling,
    /// It is in, if rax, the box's word before that, is granted.
    LineFilled,
    /// A read that waits, or copies.
    LineReading,
    /// It is over, if rax, the box's word, is the one that it saw.
    LineSeen,
    /// Over: the slot holds the result.
    LineOver,
}

/// Where in the stub an instruction pointer stands; `None`: elsewhere.
#[must_use]
pub fn stage(ip: u64) -> Option<Stage> {
    let at = ip.checked_sub(BASE)?;
    let before = |label: *const u8| at < offset(label);
    if before(&raw const casemate_fast_away) || !before(&raw const casemate_fast_end) {
        return None;
    }
    let stages = [
        (&raw const casemate_fast_shifted, Stage::Untouched),
        (&raw const casemate_fast_packed, Stage::Shifted),
        (&raw const casemate_fast_saved, Stage::Packed),
        (&raw const casemate_fast_kept, Stage::Saved),
        (&raw const casemate_fast_done, Stage::Kept),
        (&raw const casemate_fast_finished, Stage::Copying),
        (&raw const casemate_fast_declined, Stage::Finished),
        (&raw const casemate_fast_call, Stage::Kept),
        (&raw const casemate_fast_called, Stage::Calling),
        (&raw const casemate_fast_kept_away, Stage::Called),
        (&raw const casemate_fast_unpack, Stage::Saved),
        (&raw const casemate_fast_leave, Stage::Packed),
        (&raw const casemate_fast_known, Stage::Untouched),
        (&raw const casemate_fast_answered, Stage::Moved),
        (&raw const casemate_fast_yields, Stage::Finished),
        (&raw const casemate_fast_timed, Stage::Untouched),
        (&raw const casemate_fast_told, Stage::Timed),
        (&raw const casemate_fast_yield, Stage::Told),
        (&raw const casemate_fast_yielded, Stage::Yield),
        (&raw const casemate_fast_line, Stage::Told),
        (&raw const casemate_fast_line_saved, Stage::Packed),
        (&raw const casemate_fast_line_kept, Stage::Saved),
        (&raw const casemate_fast_line_filling, Stage::LineKept),
        (&raw const casemate_fast_line_filled, Stage::LineFilling),
        (&raw const casemate_fast_line_written, Stage::LineFilled),
        (&raw const casemate_fast_line_read, Stage::LineOver),
        (&raw const casemate_fast_line_reading, Stage::LineKept),
        (&raw const casemate_fast_line_seen, Stage::LineReading),
        (&raw const casemate_fast_line_over, Stage::LineSeen),
        (&raw const casemate_fast_line_back, Stage::LineOver),
        (&raw const casemate_fast_line_slow, Stage::Finished),
        (&raw const casemate_fast_futex, Stage::LineKept),
        (&raw const casemate_fast_futex_over, Stage::Futex),
        (&raw const casemate_answers, Stage::Untouched),
        (&raw const casemate_answers_over, Stage::Looking),
        (&raw const casemate_answers_found, Stage::Answered),
        (&raw const casemate_answers_ask, Stage::Finished),
        (&raw const casemate_windows_sought, Stage::Looking),
        (&raw const casemate_fast_end, Stage::Sought),
    ];
    let found = stages.into_iter().find(|(end, _)| before(*end));
    Some(found.map_or(Stage::Untouched, |(_, stage)| stage))
}

/// The byte of the stub that says whether calls from patched sites are answered there (`ANSWERS`), or all made at their trampolines (`TURNS_AWAY`).
#[must_use]
pub fn switch() -> u64 {
    BASE + offset(&raw const casemate_fast_switch)
}

/// `ja` and `jmp`, both with a distance of one byte.
pub const ANSWERS: u8 = 0x77;
pub const TURNS_AWAY: u8 = 0xEB;

/// The instruction pointer of a call that the stub makes in the ordinary way, as the host's kernel reports it.
#[must_use]
pub fn called() -> u64 {
    BASE + offset(&raw const casemate_fast_called)
}

/// What the stub does with a call besides asking: values as `fast.s` compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Not by the channel.
    None = 0,
    Plain = 1,
    /// Data to the second argument, as much as the third says.
    Read = 2,
    Write = 3,
    /// `struct stat` to the second argument.
    Fstat = 4,
    /// A path is the first argument, or the second.
    Path = 5,
    PathAt = 6,
    /// Both: a path, and `struct stat` to the argument behind it.
    Stat = 7,
    StatAt = 8,
    /// A path, and a link's text to the argument behind it, as much as the one behind that says.
    Link = 9,
    LinkAt = 10,
    /// `struct flock` is the third argument, where the second is a command on locks.
    Lock = 11,
    /// A path is the second argument, and `struct statx` goes to the fifth.
    Statx = 12,
    /// As `Write` and `Read`, but always made as an ordinary call, with its data carried.
    Send = 13,
    Receive = 14,
}

impl Class {
    /// Whether the stub waits for somebody who serves it.
    #[must_use]
    pub fn is_served(self) -> bool {
        !matches!(self, Self::None | Self::Send | Self::Receive)
    }
}

/// Calls that the stub offers to the sentry without a notification. None of them changes its caller's mask or ends it; one that sends it a signal (SIGPIPE, SIGXFSZ)
/// is finished by that signal's frame.
const OFFERED: &[(i64, Class)] = &[
    (libc::SYS_read, Class::Read),
    (libc::SYS_write, Class::Write),
    (libc::SYS_pread64, Class::Read),
    (libc::SYS_pwrite64, Class::Write),
    (libc::SYS_readv, Class::Plain),
    (libc::SYS_writev, Class::Plain),
    (libc::SYS_sendto, Class::Send),
    (libc::SYS_recvfrom, Class::Receive),
    (libc::SYS_lseek, Class::Plain),
    (libc::SYS_sendfile, Class::Plain),
    (libc::SYS_open, Class::Path),
    (libc::SYS_openat, Class::PathAt),
    (libc::SYS_close, Class::Plain),
    (libc::SYS_stat, Class::Stat),
    (libc::SYS_lstat, Class::Stat),
    (libc::SYS_fstat, Class::Fstat),
    (libc::SYS_newfstatat, Class::StatAt),
    (libc::SYS_statx, Class::Statx),
    (libc::SYS_access, Class::Path),
    (libc::SYS_faccessat, Class::PathAt),
    (libc::SYS_faccessat2, Class::PathAt),
    (libc::SYS_readlink, Class::Link),
    (libc::SYS_readlinkat, Class::LinkAt),
    (libc::SYS_getdents64, Class::Plain),
    (libc::SYS_unlink, Class::Path),
    (libc::SYS_unlinkat, Class::PathAt),
    (libc::SYS_rename, Class::Path),
    (libc::SYS_renameat, Class::PathAt),
    (libc::SYS_renameat2, Class::PathAt),
    (libc::SYS_mkdir, Class::Path),
    (libc::SYS_mkdirat, Class::PathAt),
    (libc::SYS_rmdir, Class::Path),
    (libc::SYS_ftruncate, Class::Plain),
    (libc::SYS_fsync, Class::Plain),
    (libc::SYS_fdatasync, Class::Plain),
    (libc::SYS_fchmod, Class::Plain),
    (libc::SYS_chmod, Class::Path),
    (libc::SYS_fchmodat, Class::PathAt),
    (libc::SYS_fchown, Class::Plain),
    (libc::SYS_fchownat, Class::PathAt),
    (libc::SYS_utimensat, Class::PathAt),
    (libc::SYS_getcwd, Class::Plain),
    (libc::SYS_fcntl, Class::Lock),
    (libc::SYS_dup, Class::Plain),
    (libc::SYS_dup2, Class::Plain),
    (libc::SYS_poll, Class::Plain),
    (libc::SYS_epoll_wait, Class::Plain),
    (libc::SYS_epoll_pwait, Class::Plain),
    (libc::SYS_getppid, Class::Plain),
    (libc::SYS_getpgrp, Class::Plain),
    (libc::SYS_umask, Class::Plain),
    (libc::SYS_uname, Class::Plain),
];

/// Calls that the stub answers from `loader::IDS`, in that order.
pub const ANSWERED: [i64; 4] = [
    libc::SYS_getuid,
    libc::SYS_getgid,
    libc::SYS_geteuid,
    libc::SYS_getegid,
];

/// glibc's sched_yield(3), whole: `mov $24, %eax; syscall; cmp $-4095, %rax; jae; ret`. Its call is native, so it never traps; it begins at a multiple of 16, or
/// behind the four bytes of an endbr64 that does. Nothing but that function is as long, as aligned, and the same.
pub const YIELD: [u8; 16] = [
    0xB8, 24, 0, 0, 0, 0x0F, 0x05, 0x48, 0x3D, 0x01, 0xF0, 0xFF, 0xFF, 0x73, 0x01, 0xC3,
];
/// Where in it the site is.
pub const YIELD_SITE: u64 = 5;

/// Where in code that lies at a multiple of 16 the C library's sched_yield(3) is.
#[must_use]
pub fn find_yield(code: &[u8]) -> Option<usize> {
    const ENDBR64: [u8; 4] = [0xF3, 0x0F, 0x1E, 0xFA];
    (0..code.len()).step_by(16).find_map(|start| {
        let function = &code[start..];
        let after = usize::from(function.starts_with(&ENDBR64)) * ENDBR64.len();
        function[after..]
            .starts_with(&YIELD)
            .then_some(start + after)
    })
}

const CLASSES: [u8; 512] = {
    let mut classes = [0; 512];
    let mut index = 0;
    while index < OFFERED.len() {
        let (nr, class) = OFFERED[index];
        #[expect(clippy::cast_sign_loss, reason = "the table's numbers are small")]
        let nr = nr as usize;
        classes[nr] = class as u8;
        index += 1;
    }
    classes
};

/// By number, as they lie in the loader's page.
pub(crate) fn classes() -> [u8; 512] {
    CLASSES
}

#[must_use]
pub fn class(nr: i32) -> Class {
    let found = usize::try_from(nr).ok().and_then(|nr| CLASSES.get(nr));
    match found {
        Some(1) => Class::Plain,
        Some(2) => Class::Read,
        Some(3) => Class::Write,
        Some(4) => Class::Fstat,
        Some(5) => Class::Path,
        Some(6) => Class::PathAt,
        Some(7) => Class::Stat,
        Some(8) => Class::StatAt,
        Some(9) => Class::Link,
        Some(10) => Class::LinkAt,
        Some(11) => Class::Lock,
        Some(12) => Class::Statx,
        Some(13) => Class::Send,
        Some(14) => Class::Receive,
        _ => Class::None,
    }
}

/// Whether a site that makes this call is worth patching.
#[must_use]
pub fn is_eligible(nr: i32) -> bool {
    class(nr) != Class::None || ANSWERED.contains(&i64::from(nr))
}

/// Whether a thread's FS base can be told without a call (FSGSBASE, which the kernel says it lets programs use).
#[must_use]
pub fn tells_fs_base() -> bool {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: no memory is passed.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

/// The table's entry for an FS base: as the stub computes it.
#[must_use]
pub fn table_entry(fs_base: u64) -> u64 {
    crate::loader::TABLE + ((fs_base >> 8) & 0xFF0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stub makes a call itself where no server does, at an instruction of the loader's page: there the filter would let it through to the host.
    #[test]
    fn no_call_is_offered_that_is_native_in_the_stub() {
        for native in crate::filter::NATIVE.iter().filter(|it| it.only_in_loader) {
            assert!(
                OFFERED.iter().all(|(nr, _)| *nr != native.nr),
                "{}",
                native.name
            );
        }
    }

    #[test]
    fn a_patched_site_jumps_where_its_bytes_say() {
        // glibc's `syscall; cmp $-4096, %rax`
        let site = 0x7F00_0000_1000;
        let targets = |site: u64, bytes: [u8; SITE_LEN]| -> Vec<u64> {
            ways(site, bytes).iter().map(|way| way.target).collect()
        };
        assert_eq!(
            targets(site, [0x0F, 0x05, 0x48, 0x3D, 0x00, 0xF0]),
            [site + 5 + 0x003D_4805, site + 6 - 0x0FFF_C2B8]
        );
        // As above, of a 32-bit result: the first way leads below all memory where the program lies low.
        assert_eq!(
            targets(0x44_0000, [0x0F, 0x05, 0x3D, 0x00, 0xF0, 0xFF]),
            [0x44_0000 + 6 - 0xF_FFC3]
        );
        assert_eq!(targets(site, [0x0F, 0x34, 0, 0, 0, 0]), [] as [u64; 0]);
    }

    #[test]
    fn the_library_s_yield_is_found_where_a_function_begins() {
        let mut code = vec![0x90; 256];
        code[37..53].copy_from_slice(&YIELD);
        assert_eq!(find_yield(&code), None);
        code[96..100].copy_from_slice(&[0xF3, 0x0F, 0x1E, 0xFA]);
        code[100..116].copy_from_slice(&YIELD);
        assert_eq!(find_yield(&code), Some(100));
        code[64..80].copy_from_slice(&YIELD);
        assert_eq!(find_yield(&code), Some(64));
        assert_eq!(find_yield(&code[..79]), None);
    }

    #[test]
    fn a_trampoline_returns_behind_its_site() {
        let (site, at) = (0x7F00_0000_1000_u64, 0x7F00_003D_580A_u64);
        let code = trampoline(site, at).expect("near");
        assert_eq!(code[SLOW as usize..][..2], SYSCALL);
        let back = i32::from_le_bytes(code[23..27].try_into().expect("four bytes"));
        let end = at + TRAMPOLINE_LEN as u64;
        assert_eq!(end.checked_add_signed(back.into()), Some(site + AFTER));
        assert_eq!(trampoline(site, site + (3 << 30)), None);
    }

    #[test]
    fn every_instruction_of_the_stub_has_a_stage() {
        let at = |label: *const u8| BASE + offset(label);
        assert_eq!(
            stage(at(&raw const casemate_fast_entry)),
            Some(Stage::Untouched)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_shifted)),
            Some(Stage::Shifted)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_packed)),
            Some(Stage::Packed)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_saved)),
            Some(Stage::Saved)
        );
        assert_eq!(stage(at(&raw const casemate_fast_kept)), Some(Stage::Kept));
        assert_eq!(
            stage(at(&raw const casemate_fast_done)),
            Some(Stage::Copying)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_finished)),
            Some(Stage::Finished)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_declined)),
            Some(Stage::Kept)
        );
        for (label, expected) in [
            (&raw const casemate_fast_call, Stage::Calling),
            (&raw const casemate_fast_called, Stage::Called),
            (&raw const casemate_fast_kept_away, Stage::Saved),
        ] {
            assert_eq!(stage(at(label)), Some(expected));
        }
        assert_eq!(
            stage(at(&raw const casemate_fast_unpack)),
            Some(Stage::Packed)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_leave)),
            Some(Stage::Untouched)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_ids)),
            Some(Stage::Untouched)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_known)),
            Some(Stage::Moved)
        );
        assert_eq!(
            stage(at(&raw const casemate_fast_answered)),
            Some(Stage::Finished)
        );
        for (label, expected) in [
            (&raw const casemate_fast_line, Stage::Packed),
            (&raw const casemate_fast_line_saved, Stage::Saved),
            (&raw const casemate_fast_line_kept, Stage::LineKept),
            (&raw const casemate_fast_line_filling, Stage::LineFilling),
            (&raw const casemate_fast_line_filled, Stage::LineFilled),
            (&raw const casemate_fast_line_written, Stage::LineOver),
            (&raw const casemate_fast_line_read, Stage::LineKept),
            (&raw const casemate_fast_line_reading, Stage::LineReading),
            (&raw const casemate_fast_line_seen, Stage::LineSeen),
            (&raw const casemate_fast_line_over, Stage::LineOver),
            (&raw const casemate_fast_line_back, Stage::Finished),
            (&raw const casemate_fast_line_slow, Stage::LineKept),
            (&raw const casemate_fast_futex, Stage::Futex),
            (&raw const casemate_fast_futex_over, Stage::Untouched),
            (&raw const casemate_answers, Stage::Looking),
            (&raw const casemate_answers_over, Stage::Answered),
            (&raw const casemate_answers_found, Stage::Finished),
            (&raw const casemate_answers_ask, Stage::Looking),
            (&raw const casemate_windows_sought, Stage::Sought),
        ] {
            assert_eq!(stage(at(label)), Some(expected));
        }
        let yields = [
            (&raw const casemate_fast_yields, Stage::Untouched),
            (&raw const casemate_fast_timed, Stage::Timed),
            (&raw const casemate_fast_told, Stage::Told),
            (&raw const casemate_fast_yield, Stage::Yield),
            (&raw const casemate_fast_yielded, Stage::Told),
        ];
        for (label, expected) in yields {
            assert_eq!(stage(at(label)), Some(expected));
        }
        assert_eq!(stage(at(&raw const casemate_fast_end)), None);
        assert_eq!(stage(at(&raw const casemate_fast_away) - 1), None);
        assert_eq!(
            stage(at(&raw const casemate_fast_away)),
            Some(Stage::Untouched)
        );
    }
}

//! A terminal's settings and their layouts. termios(3), ioctl_tty(2), include/uapi/asm-generic/termbits.h.

use crate::memory::half;

pub const ISTRIP: u32 = libc::ISTRIP;
pub const INLCR: u32 = libc::INLCR;
pub const IGNCR: u32 = libc::IGNCR;
pub const ICRNL: u32 = libc::ICRNL;
pub const IUCLC: u32 = libc::IUCLC;
pub const IXON: u32 = libc::IXON;
pub const IXANY: u32 = libc::IXANY;
pub const PARMRK: u32 = libc::PARMRK;
pub const IUTF8: u32 = libc::IUTF8;
pub const OPOST: u32 = libc::OPOST;
pub const OLCUC: u32 = libc::OLCUC;
pub const ONLCR: u32 = libc::ONLCR;
pub const OCRNL: u32 = libc::OCRNL;
pub const ONOCR: u32 = libc::ONOCR;
pub const ONLRET: u32 = libc::ONLRET;
pub const XTABS: u32 = libc::XTABS;
pub const ISIG: u32 = libc::ISIG;
pub const ICANON: u32 = libc::ICANON;
pub const ECHO: u32 = libc::ECHO;
pub const ECHOE: u32 = libc::ECHOE;
pub const ECHOK: u32 = libc::ECHOK;
pub const ECHONL: u32 = libc::ECHONL;
pub const ECHOCTL: u32 = libc::ECHOCTL;
pub const ECHOPRT: u32 = libc::ECHOPRT;
pub const ECHOKE: u32 = libc::ECHOKE;
pub const NOFLSH: u32 = libc::NOFLSH;
pub const TOSTOP: u32 = libc::TOSTOP;
pub const IEXTEN: u32 = libc::IEXTEN;
pub const EXTPROC: u32 = libc::EXTPROC;
const CSIZE: u32 = libc::CSIZE;
const CS8: u32 = libc::CS8;
const CREAD: u32 = libc::CREAD;
const PARENB: u32 = libc::PARENB;
const CBAUD: u32 = libc::CBAUD;
const BOTHER: u32 = libc::BOTHER;
const B38400: u32 = libc::B38400;
/// What CBAUD's codes 0 to 15, and 0x1001 on, stand for.
const SPEEDS: [u32; 16] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
];
const FAST_SPEEDS: [u32; 15] = [
    57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
    2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];
const FAST: u32 = 0x1000;

/// `struct termios` as the kernel has it: 19 control characters, without speeds.
pub const TERMIOS: usize = 36;
/// `struct termios2`: with speeds.
pub const TERMIOS2: usize = 44;
/// `struct termio` of System V.
pub const TERMIO: usize = 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Termios {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub line: u8,
    pub chars: [u8; 19],
    pub input_speed: u32,
    pub output_speed: u32,
}

impl Default for Termios {
    /// Linux: include/linux/tty.h INIT_C_CC, drivers/tty/pty.c unix98_pty_init().
    fn default() -> Self {
        let mut chars = [0; 19];
        chars[..17]
            .copy_from_slice(b"\x03\x1c\x7f\x15\x04\0\x01\0\x11\x13\x1a\0\x12\x0f\x17\x16\0");
        Self {
            input: ICRNL | IXON,
            output: OPOST | ONLCR,
            control: B38400 | CS8 | CREAD,
            local: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            chars,
            input_speed: 38400,
            output_speed: 38400,
        }
    }
}

impl Termios {
    #[must_use]
    pub fn canonical(&self) -> bool {
        self.local & ICANON != 0
    }

    #[must_use]
    pub fn has_input(&self, flag: u32) -> bool {
        self.input & flag != 0
    }

    #[must_use]
    pub fn has_output(&self, flag: u32) -> bool {
        self.output & flag != 0
    }

    #[must_use]
    pub fn has_local(&self, flag: u32) -> bool {
        self.local & flag != 0
    }

    /// Whether `byte` is the control character `index`; 0 disables one (_POSIX_VDISABLE).
    #[must_use]
    pub fn is_char(&self, byte: u8, index: usize) -> bool {
        byte != 0 && self.chars[index] == byte
    }

    #[must_use]
    pub fn to_bytes(&self) -> [u8; TERMIOS2] {
        let mut bytes = [0; TERMIOS2];
        for (index, word) in [self.input, self.output, self.control, self.local]
            .iter()
            .enumerate()
        {
            bytes[4 * index..4 * index + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[16] = self.line;
        bytes[17..36].copy_from_slice(&self.chars);
        bytes[36..40].copy_from_slice(&self.input_speed.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.output_speed.to_le_bytes());
        bytes
    }

    /// From `struct termios`, or `termios2` where the bytes go that far. A pseudoterminal has eight bits and no parity whatever is asked (pty_set_termios()).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut chars = [0; 19];
        chars.copy_from_slice(&bytes[17..36]);
        let asked = half(bytes, 8);
        let (input_speed, output_speed) = if bytes.len() >= TERMIOS2 {
            (half(bytes, 36), half(bytes, 40))
        } else {
            (0, 0)
        };
        let coded = |code: u32, other: u32| if code == BOTHER { other } else { speed(code) };
        let output_speed = coded(asked & CBAUD, output_speed);
        let input_code = asked >> 16 & CBAUD;
        let input_speed = match input_code {
            0 => output_speed,
            code => coded(code, input_speed),
        };
        Self {
            input: half(bytes, 0),
            output: half(bytes, 4),
            control: asked & !(CSIZE | PARENB) | CS8 | CREAD,
            local: half(bytes, 12),
            line: bytes[16],
            chars,
            input_speed,
            output_speed,
        }
    }

    #[must_use]
    pub fn to_termio(&self) -> [u8; TERMIO] {
        let mut bytes = [0; TERMIO];
        for (index, word) in [self.input, self.output, self.control, self.local]
            .iter()
            .enumerate()
        {
            bytes[2 * index..2 * index + 2].copy_from_slice(&(*word as u16).to_le_bytes());
        }
        bytes[8] = self.line;
        bytes[9..17].copy_from_slice(&self.chars[..8]);
        bytes
    }

    /// With `struct termio`'s low halves and first eight characters put into these settings.
    #[must_use]
    pub fn with_termio(&self, bytes: &[u8; TERMIO]) -> Self {
        let mut whole = self.to_bytes();
        for index in 0..4 {
            whole[4 * index..4 * index + 2].copy_from_slice(&bytes[2 * index..2 * index + 2]);
        }
        whole[16] = bytes[8];
        whole[17..25].copy_from_slice(&bytes[9..17]);
        Self::from_bytes(&whole)
    }
}

fn speed(code: u32) -> u32 {
    let table = if code & FAST == 0 {
        SPEEDS.get(code as usize)
    } else {
        FAST_SPEEDS.get(((code & !FAST) as usize).wrapping_sub(1))
    };
    table.copied().unwrap_or(0)
}

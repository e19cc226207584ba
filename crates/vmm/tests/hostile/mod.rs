//! A driver that does what no driver does, for property tests, long runs and fuzzers. No KVM is needed.
//!
//! Each step is one thing a guest can do: write a descriptor, offer one, ring, write a register. What comes of it is up to the device;
//! the [`Bench`] only demands that it ends, and that a reset makes it a device again.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "shared by several tests, each of which uses a part"
)]

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use casemate_vmm::Memory;
use casemate_vmm::devices::mmds::{Service, Store};
use casemate_vmm::virtio::balloon::{Abilities, Balloon};
use casemate_vmm::virtio::block::{Block, Disk, Engine};
use casemate_vmm::virtio::console::Console;
use casemate_vmm::virtio::entropy::Entropy;
use casemate_vmm::virtio::memory::{Hotplug, Sizes};
use casemate_vmm::virtio::net::{Identity, Link, Net};
use casemate_vmm::virtio::pmem::Pmem;
use casemate_vmm::virtio::vsock::Vsock;
use casemate_vmm::virtio::{Device, Interrupt, Transport};
use vm_memory::{Bytes, GuestAddress, VolatileSlice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub const MEMORY: usize = 1 << 20;
pub const DESCRIPTORS: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;
pub const BUFFERS: u64 = 0x10000;
pub const SIZE: u16 = 16;
pub const LIVE: u32 = 15;
pub const NEEDS_RESET: u32 = 64;

/// A descriptor with every field hostile, but often enough near something that makes sense.
#[derive(Clone, Debug)]
pub struct Raw {
    pub address: u64,
    pub length: u32,
    pub flags: u16,
    pub next: u16,
}

/// One step of a driver.
#[derive(Clone, Debug)]
pub enum Step {
    Describe(u16, Raw),
    Header(Vec<u8>),
    Offer(u16),
    JumpIndex(u16),
    Ring(u32),
    Register(u64, u32),
    Config(u64, u8),
    Ready,
    SetUp,
}

pub struct Bench {
    pub transport: Transport,
    pub memory: Arc<Memory>,
    pub index: u16,
}

impl Bench {
    pub fn new(device: Box<dyn Device>) -> Bench {
        let memory = Arc::new(Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap());
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport = Transport::new(device, Arc::clone(&memory), Interrupt::new(line)).unwrap();
        Bench {
            transport,
            memory,
            index: 0,
        }
    }

    pub fn set(&mut self, register: u64, value: u32) -> bool {
        self.transport.write(register, &value.to_le_bytes())
    }

    pub fn get(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// From reset to DRIVER_OK, all queues on the same rings: hostile too, and it lets each step reach every queue.
    pub fn set_up(&mut self) {
        self.set(0x14, 0);
        let offered = self.get(0x10);
        for (register, value) in [
            (0x70, 0),
            (0x70, 1),
            (0x70, 3),
            (0x24, 0),
            (0x20, offered),
            (0x24, 1),
            (0x20, 1),
            (0x70, 11),
        ] {
            self.set(register, value);
        }
        for queue in 0..5 {
            self.set(0x30, queue);
            for (register, value) in [
                (0x38, u64::from(SIZE)),
                (0x80, DESCRIPTORS),
                (0x90, AVAILABLE),
                (0xa0, USED),
                (0x44, 1),
            ] {
                self.set(register, u32::try_from(value).unwrap());
            }
        }
        self.index = 0;
        self.memory
            .write_obj(0_u16, GuestAddress(AVAILABLE + 2))
            .unwrap();
        self.set(0x70, LIVE);
    }

    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Describe(index, raw) => {
                let at = DESCRIPTORS + 16 * u64::from(*index);
                self.memory
                    .write_obj(raw.address, GuestAddress(at))
                    .unwrap();
                self.memory
                    .write_obj(raw.length, GuestAddress(at + 8))
                    .unwrap();
                self.memory
                    .write_obj(raw.flags, GuestAddress(at + 12))
                    .unwrap();
                self.memory
                    .write_obj(raw.next, GuestAddress(at + 14))
                    .unwrap();
            }
            Step::Header(bytes) => self
                .memory
                .write_slice(bytes, GuestAddress(BUFFERS))
                .unwrap(),
            Step::Offer(head) => {
                let at = AVAILABLE + 4 + 2 * u64::from(self.index % SIZE);
                self.memory.write_obj(*head, GuestAddress(at)).unwrap();
                self.index = self.index.wrapping_add(1);
                self.memory
                    .write_obj(self.index, GuestAddress(AVAILABLE + 2))
                    .unwrap();
            }
            Step::JumpIndex(index) => {
                self.index = *index;
                self.memory
                    .write_obj(*index, GuestAddress(AVAILABLE + 2))
                    .unwrap();
            }
            Step::Ring(queue) => {
                // Nobody refills the ring meanwhile, so one turn is always enough.
                assert!(!self.set(0x50, *queue));
            }
            Step::Register(register, value) => {
                self.set(*register, *value);
                let _ = self.get(*register);
            }
            Step::Config(at, value) => {
                self.transport.write(0x100 + at, &[*value]);
                let _ = self.get(0x100 + at);
            }
            Step::Ready => self.transport.ready(),
            Step::SetUp => self.set_up(),
        }
    }
}

/// A path that nobody else in this process or another uses.
pub fn unique(name: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("casemate-{name}-{}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}

pub fn disk() -> Disk {
    let path = unique("disk");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&[7; 8192]).unwrap();
    let disk = Disk::open(&path, false).unwrap();
    std::fs::remove_file(path).unwrap();
    disk
}

pub fn entropy() -> Box<dyn Device> {
    Box::new(Entropy::new(None).unwrap())
}

pub fn block(engine: Engine) -> Box<dyn Device> {
    Box::new(Block::new(disk(), true, engine, None).unwrap())
}

/// A wire that gives back what was sent.
#[derive(Debug)]
pub struct Loopback(Vec<Vec<u8>>, std::fs::File);

impl Link for Loopback {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let frame = self.0.pop().ok_or(io::ErrorKind::WouldBlock)?;
        into[..frame.len()].copy_from_slice(&frame);
        Ok(frame.len())
    }

    fn write(&mut self, pieces: &[VolatileSlice<'_, ()>]) -> io::Result<usize> {
        let mut frame = Vec::new();
        for piece in pieces {
            let mut bytes = vec![0; piece.len()];
            piece.copy_to(&mut bytes[..]);
            frame.extend(bytes);
        }
        let length = frame.len();
        self.0.truncate(7);
        self.0.push(frame);
        Ok(length)
    }

    fn set_offload(&mut self, _bits: u32) -> io::Result<()> {
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
}

pub fn net() -> Box<dyn Device> {
    let link = Loopback(
        vec![vec![1; 1526]; 4],
        std::fs::File::open("/dev/null").unwrap(),
    );
    let mut net = Net::new(Box::new(link), Identity::default(), None, None).unwrap();
    let store = Arc::new(Mutex::new(Store::new(1000)));
    net.serve(Service::new([7, 7, 7, 7].into(), store).unwrap());
    Box::new(net)
}

/// A console with a client that has sent something and reads nothing.
pub fn connected(path: &std::path::Path) -> (Box<dyn Device>, UnixStream) {
    let console = Console::new(path).unwrap();
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(&[b'x'; 5000]).unwrap();
    (Box::new(console), client)
}

/// Half of the steps, then a snapshot that is loaded into `copy` on the same memory, which takes the other half.
pub fn run(device: Box<dyn Device>, copy: Box<dyn Device>, steps: &[Step]) -> Bench {
    let mut bench = Bench::new(device);
    bench.set_up();
    let (before, after) = steps.split_at(steps.len() / 2);
    before.iter().for_each(|step| bench.take(step));
    // As a pause does: what is under way ends.
    bench.transport.settle();
    let state = bench.transport.save();
    let line = EventFd::new(EFD_NONBLOCK).unwrap();
    let mut transport =
        Transport::new(copy, Arc::clone(&bench.memory), Interrupt::new(line)).unwrap();
    transport.restore(&state).unwrap();
    assert_eq!(transport.save(), state);
    bench.transport = transport;
    bench.transport.wake();
    after.iter().for_each(|step| bench.take(step));
    // Whatever happened: a reset makes it a device again.
    bench.set_up();
    assert_eq!(bench.get(0x70) & !NEEDS_RESET, LIVE);
    bench
}

/// Every kind of device, by number; `None` behind the last.
pub fn device(number: usize) -> Option<Box<dyn Device>> {
    Some(match number {
        0 => entropy(),
        1 => block(Engine::Sync),
        // Where io_uring is forbidden, the other engine twice.
        2 if Block::probe(Engine::Async).is_ok() => block(Engine::Async),
        2 => block(Engine::Sync),
        3 => net(),
        4 => balloon(),
        5 => vsock(),
        6 => Box::new(Console::new(&unique("console")).unwrap()),
        7 => pmem(),
        8 => hotplug(),
        _ => return None,
    })
}

pub fn pmem() -> Box<dyn Device> {
    let path = unique("pmem");
    std::fs::write(&path, [7; 8192]).unwrap();
    let window = Pmem::open(&path, false).unwrap();
    std::fs::remove_file(path).unwrap();
    let mut pmem = Pmem::new(window, None).unwrap();
    pmem.place(1 << 32);
    Box::new(pmem)
}

/// Its region is the second half of the memory, so that it can be plugged and discarded without KVM.
pub fn hotplug() -> Box<dyn Device> {
    let mut hotplug = Hotplug::new(Sizes {
        region: MEMORY as u64 / 2,
        slot: 1 << 16,
        block: 1 << 12,
    });
    hotplug.place(MEMORY as u64 / 2);
    hotplug.request(MEMORY as u64 / 4);
    Box::new(hotplug)
}

pub fn balloon() -> Box<dyn Device> {
    let abilities = Abilities {
        deflates_on_oom: true,
        has_statistics: true,
        has_hinting: true,
        has_reporting: true,
    };
    Box::new(Balloon::new(4, abilities))
}

pub fn vsock() -> Box<dyn Device> {
    Box::new(Vsock::new(3, &unique("vsock")).unwrap())
}

/// Reads steps from bytes, so that whatever makes bytes makes drivers.
pub struct Decoder<'a>(&'a [u8]);

impl Iterator for Decoder<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let kind = self.take(1)?;
        Some(match kind % 27 {
            0..8 => Step::Describe(self.number(u64::from(SIZE))?, self.raw()?),
            8..10 => Step::Header((0..44).map_while(|_| Some(self.take(1)? as u8)).collect()),
            10..15 => Step::Offer(self.number(u64::from(SIZE) + 1)?),
            15 => Step::JumpIndex(self.take(2)? as u16),
            16..20 => Step::Ring(self.take(1)? as u32 % 6),
            20..22 => Step::Register(self.take(1)? % 0x40 * 4, self.take(4)? as u32),
            22 => Step::Config(self.take(1)? % 64, self.take(1)? as u8),
            23..25 => Step::Ready,
            _ => Step::SetUp,
        })
    }
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder(bytes)
    }

    fn take(&mut self, count: usize) -> Option<u64> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }

    fn number(&mut self, below: u64) -> Option<u16> {
        Some((self.take(1)? % below) as u16)
    }

    fn raw(&mut self) -> Option<Raw> {
        let address = match self.take(1)? % 10 {
            0 => self.take(8)?,
            1 => MEMORY as u64 - 8,
            2 => USED,
            3 => DESCRIPTORS,
            _ => BUFFERS + self.take(1)? % 32 * 512,
        };
        let length = match self.take(1)? % 10 {
            0 => self.take(4)? as u32,
            other => [0, 1, 4, 16, 20, 24, 44, 512, 4096][other as usize - 1],
        };
        Some(Raw {
            address,
            length,
            flags: (self.take(1)? % 8) as u16,
            next: self.number(u64::from(SIZE) + 2)?,
        })
    }
}

/// A device and a driver from bytes: the first says which device.
pub fn play(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let number = usize::from(*first) % (0..).take_while(|number| device(*number).is_some()).count();
    let mut bench = Bench::new(device(number).unwrap());
    bench.set_up();
    for step in Decoder::new(rest) {
        bench.take(&step);
    }
    bench.set_up();
    assert_eq!(bench.get(0x70) & !NEEDS_RESET, LIVE);
}

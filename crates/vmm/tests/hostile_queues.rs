//! Drivers that do what no driver does: random chains, rings and register writes. No device may panic, hang, touch memory outside of
//! the guest, or take more than a bounded number of steps. No KVM is needed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use casemate_vmm::Memory;
use casemate_vmm::devices::mmds::{Service, Store};
use casemate_vmm::virtio::balloon::Balloon;
use casemate_vmm::virtio::block::{Block, Disk, Engine};
use casemate_vmm::virtio::entropy::Entropy;
use casemate_vmm::virtio::net::{Identity, Link, Net};
use casemate_vmm::virtio::vsock::Vsock;
use casemate_vmm::virtio::{Device, Interrupt, Transport};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MEMORY: usize = 1 << 20;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x10000;
const SIZE: u16 = 16;
const LIVE: u32 = 15;
const NEEDS_RESET: u32 = 64;

/// A descriptor with every field hostile, but often enough near something that makes sense.
#[derive(Clone, Debug)]
struct Raw {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

fn raw() -> impl Strategy<Value = Raw> {
    let address = prop_oneof![
        6 => (0_u64..32).prop_map(|page| BUFFERS + page * 512),
        1 => any::<u64>(),
        1 => Just(MEMORY as u64 - 8),
        1 => Just(USED),
        1 => Just(DESCRIPTORS),
    ];
    let length = prop_oneof![4 => prop::sample::select(vec![0, 1, 16, 20, 44, 512, 1024]), 1 => any::<u32>()];
    // NEXT, WRITE, INDIRECT.
    (address, length, 0_u16..8, 0_u16..SIZE + 2).prop_map(|(address, length, flags, next)| Raw {
        address,
        length,
        flags,
        next,
    })
}

/// One step of a driver.
#[derive(Clone, Debug)]
enum Step {
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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SIZE, raw()).prop_map(|(index, raw)| Step::Describe(index, raw)),
        2 => prop::collection::vec(any::<u8>(), 44).prop_map(Step::Header),
        4 => (0..SIZE + 1).prop_map(Step::Offer),
        1 => any::<u16>().prop_map(Step::JumpIndex),
        4 => (0_u32..4).prop_map(Step::Ring),
        2 => (0_u64..0x40, any::<u32>()).prop_map(|(word, value)| Step::Register(word * 4, value)),
        1 => (0_u64..64, any::<u8>()).prop_map(|(at, value)| Step::Config(at, value)),
        1 => Just(Step::Ready),
        2 => Just(Step::SetUp),
    ]
}

struct Bench {
    transport: Transport,
    memory: Arc<Memory>,
    index: u16,
}

impl Bench {
    fn new(device: Box<dyn Device>) -> Bench {
        let memory = Arc::new(Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap());
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport = Transport::new(device, Arc::clone(&memory), Interrupt::new(line)).unwrap();
        Bench {
            transport,
            memory,
            index: 0,
        }
    }

    fn set(&mut self, register: u64, value: u32) -> bool {
        self.transport.write(register, &value.to_le_bytes())
    }

    fn get(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// From reset to DRIVER_OK, all queues on the same rings: hostile too, and it lets each step reach every queue.
    fn set_up(&mut self) {
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
        for queue in 0..3 {
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

    fn take(&mut self, step: &Step) {
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

fn disk() -> Disk {
    // The tests of this file run at once, in one process.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("casemate-hostile-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&[7; 8192]).unwrap();
    let disk = Disk::open(&path, false).unwrap();
    std::fs::remove_file(path).unwrap();
    disk
}

/// Half of the steps, then a snapshot that is loaded into `copy` on the same memory, which takes the other half.
fn entropy() -> Box<dyn Device> {
    Box::new(Entropy::new(None).unwrap())
}

fn block(engine: Engine) -> Box<dyn Device> {
    Box::new(Block::new(disk(), true, engine, None).unwrap())
}

/// A wire that gives back what was sent.
#[derive(Debug)]
struct Loopback(Vec<Vec<u8>>, std::fs::File);

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

fn net() -> Box<dyn Device> {
    let link = Loopback(
        vec![vec![1; 1526]; 4],
        std::fs::File::open("/dev/null").unwrap(),
    );
    let mut net = Net::new(Box::new(link), Identity::default(), None, None).unwrap();
    let store = Arc::new(Mutex::new(Store::new(1000)));
    net.serve(Service::new([7, 7, 7, 7].into(), store).unwrap());
    Box::new(net)
}

fn run(device: Box<dyn Device>, copy: Box<dyn Device>, steps: &[Step]) -> Bench {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn entropy_survives(steps in prop::collection::vec(step(), 1..80)) {
        run(entropy(), entropy(), &steps);
    }

    #[test]
    fn block_survives(steps in prop::collection::vec(step(), 1..80)) {
        let new = || block(Engine::Sync);
        run(new(), new(), &steps);
    }

    #[test]
    fn block_without_waiting_survives(steps in prop::collection::vec(step(), 1..80)) {
        if Block::probe(Engine::Async).is_ok() {
            run(block(Engine::Async), block(Engine::Async), &steps);
        }
    }

    #[test]
    fn net_survives(steps in prop::collection::vec(step(), 1..80)) {
        run(net(), net(), &steps);
    }

    #[test]
    fn balloon_survives(steps in prop::collection::vec(step(), 1..80)) {
        let new = || Box::new(Balloon::new(4, true, true));
        run(new(), new(), &steps);
    }

    #[test]
    fn vsock_survives(steps in prop::collection::vec(step(), 1..80)) {
        let folder = std::env::temp_dir().join(format!("casemate-vsock-{}", std::process::id()));
        let copy = folder.with_extension("copy");
        run(Box::new(Vsock::new(3, &folder).unwrap()), Box::new(Vsock::new(3, &copy).unwrap()), &steps);
    }
}

#[test]
fn a_loop_of_descriptors_stops_the_device() {
    let mut bench = Bench::new(entropy());
    bench.set_up();
    for index in 0..SIZE {
        let next = (index + 1) % SIZE;
        bench.take(&Step::Describe(
            index,
            Raw {
                address: BUFFERS,
                length: 1,
                flags: 3,
                next,
            },
        ));
    }
    bench.take(&Step::Offer(0));
    bench.take(&Step::Ring(0));
    assert_eq!(bench.get(0x70) & NEEDS_RESET, NEEDS_RESET);
}

#[test]
fn a_ring_in_use_cannot_be_moved() {
    let mut bench = Bench::new(entropy());
    bench.set_up();
    bench.set(0x80, u32::MAX);
    bench.set(0x38, 3);
    bench.take(&Step::Describe(
        0,
        Raw {
            address: BUFFERS,
            length: 8,
            flags: 2,
            next: 0,
        },
    ));
    bench.take(&Step::Offer(0));
    bench.take(&Step::Ring(0));
    let used: u16 = bench.memory.read_obj(GuestAddress(USED + 2)).unwrap();
    assert_eq!(used, 1);
}

//! Drivers that do what no driver does: random chains, rings and register writes. No device may panic, hang, touch memory outside of
//! the guest, or take more than a bounded number of steps. No KVM is needed.

mod hostile;

use casemate_vmm::virtio::block::{Block, Engine};
use casemate_vmm::virtio::console::Console;
use hostile::*;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SIZE, raw()).prop_map(|(index, raw)| Step::Describe(index, raw)),
        2 => prop::collection::vec(any::<u8>(), 44).prop_map(Step::Header),
        4 => (0..SIZE + 1).prop_map(Step::Offer),
        1 => any::<u16>().prop_map(Step::JumpIndex),
        4 => (0_u32..6).prop_map(Step::Ring),
        2 => (0_u64..0x40, any::<u32>()).prop_map(|(word, value)| Step::Register(word * 4, value)),
        1 => (0_u64..64, any::<u8>()).prop_map(|(at, value)| Step::Config(at, value)),
        1 => Just(Step::Ready),
        2 => Just(Step::SetUp),
    ]
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
        run(balloon(), balloon(), &steps);
    }

    #[test]
    fn pmem_survives(steps in prop::collection::vec(step(), 1..80)) {
        run(pmem(), pmem(), &steps);
    }

    #[test]
    fn hotplug_survives(steps in prop::collection::vec(step(), 1..80)) {
        run(hotplug(), hotplug(), &steps);
    }

    #[test]
    fn console_survives(steps in prop::collection::vec(step(), 1..80)) {
        let (path, copy) = (unique("console"), unique("console"));
        let (console, client) = connected(&path);
        run(console, Box::new(Console::new(&copy).unwrap()), &steps);
        drop(client);
    }

    #[test]
    fn vsock_survives(steps in prop::collection::vec(step(), 1..80)) {
        run(vsock(), vsock(), &steps);
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

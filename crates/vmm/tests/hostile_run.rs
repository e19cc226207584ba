//! Long runs of random drivers against every device. A million steps, or `CASEMATE_HOSTILE_STEPS`: `make fuzz` runs more.
//! The same number is the same run.

mod hostile;

use hostile::{Bench, Decoder, LIVE, NEEDS_RESET, device};

const STEPS: usize = 1_000_000;
/// Bytes of one driver's life; then the device is made anew, so that ends of devices are met too.
const LIFE: usize = 20_000;

/// Xorshift (Marsaglia, 2003): bytes that only have to be different from each other.
struct Bytes(u64);

impl Bytes {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()[3]
        };
        (0..count).map(|_| next()).collect()
    }
}

#[test]
fn every_device_survives_a_long_run() {
    let steps = std::env::var("CASEMATE_HOSTILE_STEPS");
    let steps: usize = steps.map_or(STEPS, |text| text.parse().unwrap());
    let nr_devices = (0..).take_while(|number| device(*number).is_some()).count();
    let mut bytes = Bytes(0x9e37_79b9_7f4a_7c15);
    for number in 0..nr_devices {
        let mut left = steps / nr_devices;
        while left > 0 {
            let mut bench = Bench::new(device(number).unwrap());
            bench.set_up();
            for step in Decoder::new(&bytes.take(LIFE)).take(left) {
                bench.take(&step);
                left -= 1;
            }
            bench.set_up();
            assert_eq!(bench.get(0x70) & !NEEDS_RESET, LIVE);
        }
    }
}

/// What fuzzers found, and what they began with, is played again by every test run.
#[test]
fn the_corpus_of_the_fuzzer_is_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/queues");
    let mut nr_played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        hostile::play(&std::fs::read(entry.unwrap().path()).unwrap());
        nr_played += 1;
    }
    assert!(nr_played > 0);
}

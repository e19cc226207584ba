//! Random drivers against every device; what a driver can do stands in `crates/vmm/tests/hostile`.
#![no_main]

#[path = "../../crates/vmm/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::play(bytes));

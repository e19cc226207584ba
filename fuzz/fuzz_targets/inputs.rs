//! Random bytes as a request, a state file, a seccomp filter and a configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| casemate_vmm::read_hostile(bytes));

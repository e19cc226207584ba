//! Random requests of a guest's kernel to the server of its files. Beside the directory that it serves lies a file that no request may reach.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// In memory: each input has a directory of its own.
static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    limit_files();
    PathBuf::from(format!("/dev/shm/casemate-fuzz-{}", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let shared = PLACE.join("shared");
    fs::create_dir_all(shared.join("a/a")).expect("directories");
    fs::write(shared.join("b"), "content").expect("a file");
    fs::write(PLACE.join("outside"), "secret").expect("a file");
    std::os::unix::fs::symlink("../outside", shared.join("c")).expect("a link");
    casemate_guest_files::play(&shared, bytes);
    assert_eq!(fs::read_to_string(PLACE.join("outside")).expect("it is there"), "secret");
    assert_eq!(fs::read_dir(&*PLACE).expect("a directory").count(), 2);
    fs::remove_dir_all(&*PLACE).expect("removed");
});

/// A request may ask for a file of any size, which would fill the memory: no byte behind the first mebibyte.
fn limit_files() {
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: plain calls with values of this function's own; the signal of a file that is too large is ignored, the call's error says it.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
    }
}

//! The server without a guest: requests as a hostile kernel would write them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use crate::server::{MAX_REQUEST, Server};
use crate::wire::opcode;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("guest-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("shared")).expect("a directory");
        std::fs::write(path.join("outside"), "secret").expect("a file");
        Self(path)
    }

    fn shared(&self) -> PathBuf {
        self.0.join("shared")
    }

    fn server(&self) -> Server {
        Server::new(&self.shared()).expect("a server")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + body.len()).expect("short");
    let mut message = length.to_le_bytes().to_vec();
    message.extend(opcode.to_le_bytes());
    message.extend(7u64.to_le_bytes());
    message.extend(node.to_le_bytes());
    message.extend(rustix::process::geteuid().as_raw().to_le_bytes());
    message.extend(rustix::process::getegid().as_raw().to_le_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The error, or what was answered.
fn ask(server: &mut Server, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
    let answer = server
        .answer(&request(opcode, node, body))
        .expect("a request")
        .expect("an answer");
    assert_eq!(answer[8..16], 7u64.to_le_bytes());
    match i32::from_le_bytes(answer[4..8].try_into().expect("four")) {
        0 => Ok(answer[16..].to_vec()),
        error => Err(-error),
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight"))
}

fn look_up(server: &mut Server, parent: u64, name: &str) -> Result<u64, i32> {
    ask(
        server,
        opcode::LOOKUP,
        parent,
        format!("{name}\0").as_bytes(),
    )
    .map(|answer| number(&answer))
}

fn open(server: &mut Server, node: u64, flags: i32) -> Result<u64, i32> {
    let body = [flags.to_le_bytes(), [0; 4]].concat();
    ask(server, opcode::OPEN, node, &body).map(|answer| number(&answer))
}

fn read(server: &mut Server, handle: u64) -> Result<Vec<u8>, i32> {
    let mut body = handle.to_le_bytes().to_vec();
    body.extend(0u64.to_le_bytes());
    body.extend(u32::MAX.to_le_bytes());
    body.extend([0; 20]);
    ask(server, opcode::READ, 0, &body)
}

#[test]
fn no_name_leads_out() {
    let place = Place::new("names");
    symlink("../outside", place.shared().join("link")).expect("a link");
    symlink("..", place.shared().join("up")).expect("a link");
    let mut server = place.server();
    for name in [
        "..",
        ".",
        "",
        "../outside",
        "/etc/passwd",
        "link/",
        "up/outside",
    ] {
        assert_eq!(look_up(&mut server, 1, name), Err(libc::EINVAL), "{name:?}");
    }
    // A link is a file of its own here: nothing is opened through it, or looked up below it.
    let link = look_up(&mut server, 1, "link").expect("it is there");
    assert_eq!(open(&mut server, link, libc::O_RDONLY), Err(libc::EACCES));
    let up = look_up(&mut server, 1, "up").expect("it is there");
    assert_eq!(look_up(&mut server, up, "outside"), Err(libc::ENOTDIR));
    let both = [&0u64.to_le_bytes()[..], b"x\0../../y\0"].concat();
    assert_eq!(
        ask(&mut server, opcode::RENAME, 1, &both),
        Err(libc::EINVAL)
    );
    assert_eq!(
        ask(&mut server, opcode::UNLINK, 1, b"../outside\0"),
        Err(libc::EINVAL)
    );
    let create = [&[0; 16][..], b"../made\0"].concat();
    assert_eq!(
        ask(&mut server, opcode::CREATE, 1, &create),
        Err(libc::EINVAL)
    );
    let target = ask(&mut server, opcode::READLINK, link, b"").expect("a link");
    assert_eq!(target, b"../outside");
}

#[test]
fn only_files_and_directories_are_opened() {
    let place = Place::new("kinds");
    let mut server = place.server();
    let mode = (libc::S_IFIFO | 0o644).to_le_bytes();
    let body = [&mode[..], &[0; 12], b"pipe\0"].concat();
    ask(&mut server, opcode::MKNOD, 1, &body).expect("a pipe");
    let pipe = look_up(&mut server, 1, "pipe").expect("a pipe");
    assert_eq!(open(&mut server, pipe, libc::O_RDONLY), Err(libc::EACCES));
    // Numbers that nobody was given, and handles of something else.
    assert_eq!(look_up(&mut server, 99, "x"), Err(libc::ESTALE));
    assert_eq!(open(&mut server, 99, libc::O_RDONLY), Err(libc::ESTALE));
    assert_eq!(read(&mut server, 99), Err(libc::EBADF));
    let directory = ask(&mut server, opcode::OPENDIR, 1, &[0; 8]).expect("a directory");
    assert_eq!(read(&mut server, number(&directory)), Err(libc::EISDIR));
    assert_eq!(ask(&mut server, 4711, 1, b""), Err(libc::ENOSYS));
}

#[test]
fn what_was_opened_for_reading_is_not_written() {
    let place = Place::new("modes");
    std::fs::write(place.shared().join("file"), "content").expect("a file");
    let mut server = place.server();
    let file = look_up(&mut server, 1, "file").expect("it is there");
    let handle = open(&mut server, file, libc::O_RDONLY).expect("it opens");
    assert_eq!(read(&mut server, handle), Ok(b"content".to_vec()));
    let mut body = handle.to_le_bytes().to_vec();
    body.extend(0u64.to_le_bytes());
    body.extend(1u32.to_le_bytes());
    body.extend([0; 20]);
    body.push(b'x');
    assert_eq!(
        ask(&mut server, opcode::WRITE, file, &body),
        Err(libc::EBADF)
    );
}

#[test]
fn a_file_that_was_deleted_or_moved_is_found_while_it_is_known() {
    let place = Place::new("deleted");
    let mut server = place.server();
    for name in ["gone", "moved"] {
        std::fs::write(place.shared().join(name), name).expect("a file");
    }
    let gone = look_up(&mut server, 1, "gone").expect("it is there");
    let moved = look_up(&mut server, 1, "moved").expect("it is there");
    ask(&mut server, opcode::UNLINK, 1, b"gone\0").expect("it goes");
    let both = [&1u64.to_le_bytes()[..], b"moved\0other\0"].concat();
    ask(&mut server, opcode::RENAME, 1, &both).expect("it moves");
    // More than descriptors are kept of.
    for index in 0..600 {
        let name = format!("{index}");
        std::fs::write(place.shared().join(&name), "").expect("a file");
        look_up(&mut server, 1, &name).expect("it is there");
    }
    let (known, open_now) = server.nodes.counts();
    assert_eq!(known, 602);
    assert!(open_now <= 257, "{open_now}");
    for node in [gone, moved] {
        ask(&mut server, opcode::GETATTR, node, &[0; 16]).expect("it is known");
        let handle = open(&mut server, node, libc::O_RDONLY).expect("it opens");
        assert!(!read(&mut server, handle).expect("it is read").is_empty());
    }
    // One whose place another has taken is not mistaken for it.
    let first = look_up(&mut server, 1, "0").expect("it is there");
    for index in 100..500 {
        look_up(&mut server, 1, &format!("{index}")).expect("it is there");
    }
    std::fs::rename(place.shared().join("1"), place.shared().join("0")).expect("renamed");
    let status = ask(&mut server, opcode::GETATTR, first, &[0; 16]);
    assert!(status.is_ok() || status == Err(libc::ESTALE));
    assert_eq!(
        server.answer(&request(opcode::FORGET, gone, &1u64.to_le_bytes())),
        Ok(None)
    );
    assert_eq!(open(&mut server, gone, libc::O_RDONLY), Err(libc::ESTALE));
}

#[test]
fn what_is_made_has_the_directorys_group_where_it_says_so() {
    let place = Place::new("groups");
    let shared = place.shared();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o2755)).expect("chmod");
    let mut server = place.server();
    let body = [&0o4711u32.to_le_bytes()[..], &[0; 4], b"made\0"].concat();
    ask(&mut server, opcode::MKDIR, 1, &body).expect("a directory");
    let mode = shared.join("made").metadata().expect("made").permissions();
    assert_eq!(mode.mode() & 0o2777, 0o2711);
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(
        prop_oneof![
            Just(0u8),
            Just(1),
            Just(b'a'),
            Just(b'.'),
            Just(b'/'),
            Just(255),
            any::<u8>()
        ],
        0..120,
    );
    (0u32..60, prop_oneof![0u64..6, any::<u64>()], body)
        .prop_map(|(opcode, node, body)| request(opcode, node, &body))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes, there is an answer that fits its record, or none; and nothing outside changes.
    #[test]
    fn any_requests_are_survived(requests in prop::collection::vec(any_request(), 1..40)) {
        let place = Place::new("any");
        std::fs::create_dir_all(place.shared().join("a/a")).expect("directories");
        let mut server = place.server();
        for request in requests {
            if let Ok(Some(answer)) = server.answer(&request) {
                let length = u32::from_le_bytes(answer[..4].try_into().expect("four")) as usize;
                prop_assert_eq!(length, answer.len());
                prop_assert!(length <= MAX_REQUEST);
            }
        }
        prop_assert_eq!(std::fs::read_to_string(place.0.join("outside")).expect("it is there"), "secret");
        prop_assert_eq!(std::fs::read_dir(&place.0).expect("a directory").count(), 2);
    }
}

//! Between a hypervisor and its server of files (vhost-user; QEMU's docs/interop/vhost-user.rst): hands their messages and descriptors on, and answers for the
//! device's configuration space, its name. QEMU has that from its command line, and virtiofsd leaves it out; User Mode Linux asks for it here.
//!
//! Both sides are hostile: a message is bounded, and of two kinds a field is changed; who breaks the form is hung up on.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

const GET_PROTOCOL_FEATURES: u32 = 15;
const SET_PROTOCOL_FEATURES: u32 = 16;
const GET_CONFIG: u32 = 24;
/// VHOST_USER_PROTOCOL_F_CONFIG
const CONFIG: u64 = 1 << 9;
/// The protocol's version, and that this is an answer.
const ANSWER: u32 = 1 | 1 << 2;
const HEADER: usize = 12;
/// Of a message's body: the longest of the protocol's have 8 regions of memory, or 256 bytes of configuration.
const LONGEST: usize = 1024;
const DESCRIPTORS: usize = 8;
/// `struct virtio_fs_config`: a name and the number of request queues.
const NAME: usize = 36;

struct Message {
    request: u32,
    flags: u32,
    body: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Stands between the two for as long as both live. `name`: of the device, in the guest.
pub(crate) fn serve(hypervisor: &UnixStream, server: &UnixStream, name: &str) -> io::Result<()> {
    let mut space = name.as_bytes().to_vec();
    space.resize(NAME, 0);
    space.extend_from_slice(&1u32.to_le_bytes());
    loop {
        let mut polled = [
            PollFd::new(hypervisor, PollFlags::IN),
            PollFd::new(server, PollFlags::IN),
        ];
        poll(&mut polled, None)?;
        let [asks, answers] = polled.map(|fd| !fd.revents().is_empty());
        if asks {
            let Some(mut message) = receive(hypervisor)? else {
                return Ok(());
            };
            match message.request {
                GET_CONFIG => send(hypervisor, &configuration(&message, &space)?)?,
                SET_PROTOCOL_FEATURES => {
                    change(&mut message, |features| features & !CONFIG)?;
                    send(server, &message)?;
                }
                _ => send(server, &message)?,
            }
        }
        if answers {
            let Some(mut message) = receive(server)? else {
                return Ok(());
            };
            if message.request == GET_PROTOCOL_FEATURES {
                change(&mut message, |features| features | CONFIG)?;
            }
            send(hypervisor, &message)?;
        }
    }
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn change(message: &mut Message, how: impl Fn(u64) -> u64) -> io::Result<()> {
    let features = <[u8; 8]>::try_from(message.body.as_slice()).map_err(|_| broken())?;
    message.body = how(u64::from_le_bytes(features)).to_le_bytes().to_vec();
    Ok(())
}

/// The answer to a question for `size` bytes at `offset`: what is beyond the space reads as zero.
fn configuration(question: &Message, space: &[u8]) -> io::Result<Message> {
    let mut words = question.body.chunks_exact(4).map(number);
    let (offset, size) = words.next().zip(words.next()).ok_or_else(broken)?;
    if size > LONGEST - HEADER || offset > LONGEST {
        return Err(broken());
    }
    let mut body = question.body.get(..HEADER).ok_or_else(broken)?.to_vec();
    body.extend((offset..offset + size).map(|at| space.get(at).copied().unwrap_or(0)));
    Ok(Message {
        request: GET_CONFIG,
        flags: ANSWER,
        body,
        descriptors: Vec::new(),
    })
}

fn number(word: &[u8]) -> usize {
    word.iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The next message; `None`: the peer is gone.
fn receive(socket: &UnixStream) -> io::Result<Option<Message>> {
    let mut descriptors = Vec::new();
    let Some(header) = read(socket, HEADER, &mut descriptors)? else {
        return Ok(None);
    };
    let mut words = header.chunks_exact(4).map(number);
    let mut next = || words.next().unwrap_or(0);
    let (request, flags, length) = (next(), next(), next());
    if length > LONGEST {
        return Err(broken());
    }
    let body = match length {
        0 => Vec::new(),
        _ => read(socket, length, &mut descriptors)?.ok_or_else(broken)?,
    };
    let word = |number| u32::try_from(number).map_err(|_| broken());
    Ok(Some(Message {
        request: word(request)?,
        flags: word(flags)?,
        body,
        descriptors,
    }))
}

fn read(
    socket: &UnixStream,
    length: usize,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes[done..])];
        let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                descriptors.extend(files);
            }
        }
        match received.bytes {
            0 if done == 0 => return Ok(None),
            0 => return Err(broken()),
            count => done += count,
        }
    }
    if descriptors.len() > DESCRIPTORS {
        return Err(broken());
    }
    Ok(Some(bytes))
}

fn send(socket: &UnixStream, message: &Message) -> io::Result<()> {
    let length = u32::try_from(message.body.len()).map_err(|_| broken())?;
    let mut bytes: Vec<u8> = [message.request, message.flags, length]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    bytes.extend_from_slice(&message.body);
    let files: Vec<_> = message.descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
    }
    // Far below what a socket takes at once: either all of it goes, or the peer is no reader.
    let sent = sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    (sent == bytes.len()).then_some(()).ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    fn meeting() -> (
        UnixStream,
        UnixStream,
        std::thread::JoinHandle<io::Result<()>>,
    ) {
        let (hypervisor, front) = UnixStream::pair().expect("a pair");
        let (server, back) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn(move || serve(&front, &back, "share"));
        (hypervisor, server, thread)
    }

    fn message(request: u32, flags: u32, body: &[u8]) -> Message {
        Message {
            request,
            flags,
            body: body.to_vec(),
            descriptors: Vec::new(),
        }
    }

    #[test]
    fn the_device_has_a_name_that_the_server_need_not_know() {
        let (hypervisor, server, thread) = meeting();
        send(&hypervisor, &message(GET_PROTOCOL_FEATURES, 1, &[])).expect("ask");
        let asked = receive(&server).expect("heard").expect("a message");
        assert_eq!(
            (asked.request, asked.body.len()),
            (GET_PROTOCOL_FEATURES, 0)
        );
        send(
            &server,
            &message(GET_PROTOCOL_FEATURES, 5, &0x21u64.to_le_bytes()),
        )
        .expect("answer");
        let told = receive(&hypervisor).expect("heard").expect("a message");
        assert_eq!(told.body, (0x21 | CONFIG).to_le_bytes());
        let chosen = message(SET_PROTOCOL_FEATURES, 1, &(0x20 | CONFIG).to_le_bytes());
        send(&hypervisor, &chosen).expect("choose");
        let chosen = receive(&server).expect("heard").expect("a message");
        assert_eq!(chosen.body, 0x20u64.to_le_bytes());
        let question: Vec<u8> = [1u32, 6, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain([0; 6])
            .collect();
        send(&hypervisor, &message(GET_CONFIG, 1, &question)).expect("ask");
        let told = receive(&hypervisor).expect("heard").expect("a message");
        assert_eq!(
            (&told.body[HEADER..], told.flags),
            (&b"hare\0\0"[..], ANSWER)
        );
        drop(hypervisor);
        thread.join().expect("it ended").expect("as it should");
    }

    #[test]
    fn descriptors_go_on() {
        let (hypervisor, server, _thread) = meeting();
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut with_file = message(13, 9, &0u64.to_le_bytes());
        with_file.descriptors.push(reader.into());
        send(&hypervisor, &with_file).expect("send");
        let found = receive(&server).expect("heard").expect("a message");
        writer.write_all(b"through").expect("write");
        drop(writer);
        let mut text = String::new();
        let [file] = <[OwnedFd; 1]>::try_from(found.descriptors).expect("one");
        assert!(file.as_raw_fd() > 2);
        std::fs::File::from(file)
            .read_to_string(&mut text)
            .expect("read");
        assert_eq!(text, "through");
    }

    proptest! {
        /// Whatever a hypervisor sends, it is handed on or hung up on.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let (hypervisor, server, thread) = meeting();
            (&hypervisor).write_all(&bytes).expect("write");
            hypervisor.shutdown(std::net::Shutdown::Write).expect("shutdown");
            let _ = thread.join().expect("no panic");
            drop(server);
        }
    }
}

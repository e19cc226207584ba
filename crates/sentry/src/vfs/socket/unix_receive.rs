//! Local sockets: receiving. Linux: unix_stream_read_generic(), __unix_dgram_recvmsg().

use std::sync::Arc;

use super::unix::{Kind, Message, Phase, UnixSocket};
use super::{Control, Received};
use crate::errno::{Errno, Result};
use crate::memory::Buffer;

/// Who sent a message that tells nobody: no process, and the overflow ids.
const UNTOLD: [u32; 3] = [0, 65534, 65534];

impl UnixSocket {
    pub fn receive(self: &Arc<Self>, to: &mut Buffer, flags: i32) -> Result<Received> {
        let (result, spent) = match self.kind {
            Kind::Stream => self.receive_stream(to, flags),
            Kind::Datagram | Kind::Packets => self.receive_message(to, flags),
        };
        // Without this socket's lock: giving room back wakes the sender, and what is dropped can be a socket itself.
        for message in spent {
            message.sender.uncharge(message.charge);
        }
        result
    }

    fn receive_stream(&self, to: &mut Buffer, flags: i32) -> (Result<Received>, Vec<Message>) {
        let mut spent = Vec::new();
        if flags & libc::MSG_OOB != 0 {
            return (Err(Errno::EINVAL), spent);
        }
        let peeks = flags & libc::MSG_PEEK != 0;
        let tells = self.options.lock().passes_credentials;
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Connected) {
            return (Err(Errno::EINVAL), spent);
        }
        if to.remaining() == 0 {
            return (Ok(Received::default()), spent);
        }
        if state.messages.is_empty() {
            let result = match state.error.take() {
                Some(error) => Err(error),
                None if state.is_shut_for_receiving => Ok(Received::default()),
                None => Err(Errno::EAGAIN),
            };
            return (result, spent);
        }
        let mut received = Received::default();
        let mut said: Option<Option<[u32; 3]>> = None;
        let mut index = 0;
        while to.remaining() > 0 {
            let Some(message) = state.messages.get_mut(index) else {
                break;
            };
            // Bytes of different senders are not mixed where that is told.
            if tells && said.is_some_and(|said| said != message.credentials) {
                break;
            }
            let rest = message.rest();
            let (len, wanted) = (rest.len(), rest.len().min(to.remaining()));
            let count = match to.put(&rest[..wanted]) {
                Ok(count) => count,
                Err(error) if received.count == 0 => return (Err(error), spent),
                Err(_) => break,
            };
            received.count += count;
            said = Some(message.credentials);
            let has_rights = !message.rights.is_empty();
            if has_rights {
                let rights = if peeks {
                    message.rights.copy()
                } else {
                    message.rights.take()
                };
                received.control.push(Control::Rights(rights));
            }
            if peeks {
                index += 1;
            } else {
                message.read += count;
                if count == len {
                    spent.extend(state.messages.pop_front());
                }
            }
            if has_rights || count < len {
                break;
            }
        }
        if tells {
            let ids = said.flatten().unwrap_or(UNTOLD);
            received.control.insert(0, Control::Credentials(ids));
        }
        (Ok(received), spent)
    }

    fn receive_message(&self, to: &mut Buffer, flags: i32) -> (Result<Received>, Vec<Message>) {
        let mut spent = Vec::new();
        if flags & libc::MSG_OOB != 0 {
            return (Err(Errno::EOPNOTSUPP), spent);
        }
        let tells = self.options.lock().passes_credentials;
        let mut state = self.lock();
        if self.kind == Kind::Packets && !matches!(state.phase, Phase::Connected) {
            return (Err(Errno::ENOTCONN), spent);
        }
        if let Some(error) = state.error.take() {
            return (Err(error), spent);
        }
        let is_shut = state.is_shut_for_receiving;
        let Some(message) = state.messages.front_mut() else {
            // A datagram socket that must not wait says EAGAIN even then; the caller knows whether it waits.
            let result =
                if is_shut && (self.kind == Kind::Packets || flags & libc::MSG_DONTWAIT == 0) {
                    Ok(Received::default())
                } else {
                    Err(Errno::EAGAIN)
                };
            return (result, spent);
        };
        let len = message.bytes.len();
        let wanted = len.min(to.remaining());
        let copied = to.put(&message.bytes[..wanted]);
        let failed = match copied {
            Ok(count) if count == wanted => None,
            Ok(_) => Some(Errno::EFAULT),
            Err(error) => Some(error),
        };
        let peeks = flags & libc::MSG_PEEK != 0;
        let mut received = Received {
            count: if flags & libc::MSG_TRUNC != 0 {
                len
            } else {
                wanted
            },
            from: Some(if message.from == super::unix_names::Name::Unnamed {
                Vec::new()
            } else {
                message.from.to_bytes()
            }),
            flags: if len > wanted { libc::MSG_TRUNC } else { 0 },
            ..Received::default()
        };
        // Linux: a sequenced packet is a whole record (unix_seqpacket_recvmsg leaves MSG_EOR to the sender).
        if tells {
            let ids = message.credentials.unwrap_or(UNTOLD);
            received.control.push(Control::Credentials(ids));
        }
        if !message.rights.is_empty() {
            let rights = if peeks {
                message.rights.copy()
            } else {
                message.rights.take()
            };
            received.control.push(Control::Rights(rights));
        }
        if !peeks {
            spent.extend(state.messages.pop_front());
        }
        (failed.map_or(Ok(received), Err), spent)
    }
}

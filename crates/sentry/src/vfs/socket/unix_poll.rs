//! Local sockets: what poll(2) says of them. Linux: unix_poll(), unix_dgram_poll().

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::unix::{Kind, Phase, State, UnixSocket};
use crate::vfs::file::{POLLERR, POLLHUP, POLLRDHUP, READABLE, WRITABLE};

const POLLWRBAND: u32 = 0x200;

impl UnixSocket {
    #[must_use]
    pub fn poll(self: &Arc<Self>) -> u32 {
        match self.kind {
            Kind::Stream => self.poll_stream(),
            Kind::Datagram | Kind::Packets => self.poll_datagrams(),
        }
    }

    /// Linux: unix_writable().
    pub(super) fn is_writable(&self) -> bool {
        self.sent.load(Ordering::Relaxed).saturating_mul(4) <= self.send_room()
    }

    fn poll_datagrams(self: &Arc<Self>) -> u32 {
        let (mut events, peer) = {
            let state = self.lock();
            let mut events = common_events(&state);
            if self.kind == Kind::Packets && matches!(state.phase, Phase::Unconnected) {
                events |= POLLHUP;
            }
            (events, state.peer.clone())
        };
        let has_room = peer.is_none_or(|peer| {
            let state = peer.lock();
            let is_mutual = state
                .peer
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, self));
            is_mutual || !peer.is_full(&state)
        });
        if has_room && self.is_writable() {
            events |= WRITABLE | POLLWRBAND;
        } else {
            self.note_no_room();
        }
        events
    }

    fn poll_stream(&self) -> u32 {
        let state = self.lock();
        let mut events = common_events(&state);
        match &state.phase {
            Phase::Unconnected => events |= POLLHUP,
            Phase::Listening(pending, _) if !pending.is_empty() => events |= READABLE,
            _ => {}
        }
        if !matches!(state.phase, Phase::Listening(..)) && self.is_writable() {
            events |= WRITABLE | POLLWRBAND;
        }
        events
    }
}

/// Linux: unix_poll(), unix_dgram_poll().
fn common_events(state: &State) -> u32 {
    let mut events = 0;
    if state.error.is_some() {
        events |= POLLERR;
    }
    if state.is_shut_for_receiving {
        events |= POLLRDHUP | READABLE;
        if state.is_shut_for_sending {
            events |= POLLHUP;
        }
    }
    if !state.messages.is_empty() {
        events |= READABLE;
    }
    if let Phase::Listening(pending, _) = &state.phase
        && !pending.is_empty()
    {
        events |= READABLE;
    }
    events
}

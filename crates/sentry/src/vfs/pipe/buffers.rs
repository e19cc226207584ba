//! What a pipe holds, and what it has room for: a page for each write that does not fit into the last one's. Linux: pipe_write(), pipe_read().

use std::collections::VecDeque;

pub(super) const PAGE: usize = 4096;
/// The largest write that is never split. limits.h PIPE_BUF.
const PIPE_BUF: usize = 4096;

/// What becomes of the bytes of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Later ones go on in its last page.
    Stream,
    /// Each page is read by a read of its own (O_DIRECT).
    Packets,
    /// Pages of somebody else's, by splice(2): nothing is added to them.
    Spliced,
}

#[derive(Debug)]
struct Page {
    /// Bytes that were read of it: their room comes back with the last.
    begin: usize,
    len: usize,
    kind: Kind,
}

#[derive(Debug)]
pub(super) struct Buffers {
    bytes: VecDeque<u8>,
    pages: VecDeque<Page>,
    /// In pages.
    most: usize,
    packets: usize,
}

impl Buffers {
    #[must_use]
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            pages: VecDeque::new(),
            most: capacity / PAGE,
            packets: 0,
        }
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.pages.len() >= self.most
    }

    #[must_use]
    pub(super) fn capacity(&self) -> usize {
        self.most * PAGE
    }

    /// False, and nothing is changed: it holds more pages already.
    pub(super) fn set_capacity(&mut self, bytes: usize) -> bool {
        let most = bytes / PAGE;
        let fits = self.pages.len() <= most;
        if fits {
            self.most = most;
        }
        fits
    }

    /// Bytes that free pages have room for.
    #[must_use]
    pub(super) fn free(&self) -> usize {
        self.most.saturating_sub(self.pages.len()) * PAGE
    }

    /// How much of a write of `count` bytes fits now: of a small one all or nothing.
    #[must_use]
    pub(super) fn room_for(&self, count: usize) -> usize {
        let fits = self.fits_in_last(count).unwrap_or(0) + self.free();
        if count <= PIPE_BUF && fits < count {
            return 0;
        }
        fits.min(count)
    }

    /// Of a write, what is beyond whole pages goes on in the last one, if it has room for all of that.
    fn fits_in_last(&self, count: usize) -> Option<usize> {
        let odd = count % PAGE;
        let last = self.pages.back()?;
        let fits = last.kind == Kind::Stream && last.begin + last.len + odd <= PAGE;
        fits.then_some(odd)
    }

    /// Adds what `room_for` a write of `count` said, or, where nobody asks, whatever there is.
    pub(super) fn push(&mut self, bytes: &[u8], count: usize, kind: Kind) {
        self.bytes.extend(bytes);
        let mut left = bytes.len();
        if let Some(odd) = self.fits_in_last(count)
            && let Some(last) = self.pages.back_mut()
        {
            let added = odd.min(left);
            last.len += added;
            left -= added;
        }
        while left > 0 {
            let len = left.min(PAGE);
            self.pages.push_back(Page {
                begin: 0,
                len,
                kind,
            });
            self.packets += usize::from(kind == Kind::Packets);
            left -= len;
        }
    }

    /// Length of the packet in front, if there is one there.
    #[must_use]
    pub(super) fn packet(&self) -> Option<usize> {
        let page = self.pages.front()?;
        (page.kind == Kind::Packets).then_some(page.len)
    }

    /// Bytes in front that lie together, up to the next packet.
    #[must_use]
    pub(super) fn front(&self) -> &[u8] {
        let front = self.bytes.as_slices().0;
        if self.packets == 0 {
            return front;
        }
        let others = self.pages.iter();
        let others = others.take_while(|page| page.kind != Kind::Packets);
        let most: usize = others.map(|page| page.len).sum();
        &front[..most.min(front.len())]
    }

    /// The next bytes, copied.
    #[must_use]
    pub(super) fn peek(&self, limit: usize) -> Vec<u8> {
        self.bytes.iter().take(limit).copied().collect()
    }

    pub(super) fn consume(&mut self, count: usize) {
        let mut left = count.min(self.bytes.len());
        self.bytes.drain(..left);
        while left > 0
            && let Some(page) = self.pages.front_mut()
        {
            let taken = left.min(page.len);
            page.begin += taken;
            page.len -= taken;
            left -= taken;
            if page.len == 0 {
                self.drop_page();
            }
        }
    }

    fn drop_page(&mut self) {
        if let Some(page) = self.pages.pop_front() {
            self.packets -= usize::from(page.kind == Kind::Packets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffers, Kind, PAGE};

    fn written(buffers: &mut Buffers, count: usize, kind: Kind) -> usize {
        let fits = buffers.room_for(count);
        buffers.push(&vec![7; fits], count, kind);
        fits
    }

    #[test]
    fn small_writes_share_pages_as_far_as_they_fit() {
        let mut buffers = Buffers::new(4 * PAGE);
        let whole = std::iter::repeat_with(|| written(&mut buffers, 1000, Kind::Stream));
        assert_eq!(whole.take_while(|count| *count == 1000).count(), 16);
        assert!(buffers.is_full());
        // 96 bytes are left in the last page.
        assert_eq!(written(&mut buffers, 97, Kind::Stream), 0);
        assert_eq!(written(&mut buffers, 96, Kind::Stream), 96);
        // Room comes back page by page.
        buffers.consume(3999);
        assert_eq!(buffers.room_for(1), 0);
        buffers.consume(1);
        assert_eq!(buffers.room_for(5000), PAGE);
    }

    #[test]
    fn packets_take_a_page_each_and_are_read_one_by_one() {
        let mut buffers = Buffers::new(3 * PAGE);
        assert_eq!(written(&mut buffers, 20, Kind::Packets), 20);
        assert_eq!(written(&mut buffers, 10, Kind::Packets), 10);
        assert_eq!(written(&mut buffers, 1, Kind::Stream), 1);
        assert_eq!(written(&mut buffers, PAGE, Kind::Stream), 0);
        assert_eq!((buffers.packet(), buffers.front().len()), (Some(20), 0));
        buffers.consume(20);
        assert_eq!(buffers.packet(), Some(10));
        buffers.consume(10);
        assert_eq!((buffers.packet(), buffers.front().len()), (None, 1));
        // What fits into a stream's last page goes on there, packet or not.
        assert_eq!(written(&mut buffers, 20, Kind::Packets), 20);
        assert_eq!((buffers.packet(), buffers.len()), (None, 21));
    }

    #[test]
    fn spliced_pages_are_not_added_to() {
        let mut buffers = Buffers::new(2 * PAGE);
        buffers.push(&[1], buffers.free(), Kind::Spliced);
        assert_eq!(written(&mut buffers, 1, Kind::Stream), 1);
        assert!(buffers.is_full() && !buffers.set_capacity(PAGE));
    }
}

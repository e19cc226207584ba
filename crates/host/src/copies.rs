//! memcpy(3) and its like, for a build with musl. A library of the C compiler's kind: every move of the compiler's that is not in line comes here.

std::arch::global_asm!(include_str!("copies.s"));

#[cfg(test)]
mod tests {
    const SIZES: [usize; 7] = [0, 1, 300, 1023, 1024, 1025, 5000];
    /// More than the largest size, and than any distance below.
    const ROOM: usize = 8192;

    fn sizes() -> impl Iterator<Item = usize> {
        (0..300).chain(SIZES)
    }

    fn numbered() -> Vec<u8> {
        (0..251).cycle().take(ROOM).collect()
    }

    /// Byte by byte: the loop is not to become a call of what is tested.
    fn same(one: &[u8], other: &[u8]) -> bool {
        one.len() == other.len()
            && (0..one.len()).all(|at| std::hint::black_box(one[at]) == other[at])
    }

    #[test]
    fn moves_of_all_sizes_and_distances() {
        let source = numbered();
        for size in sizes() {
            for (from, to) in [
                (64, 4000),
                (64, 64),
                (64, 65),
                (65, 64),
                (64, 80),
                (90, 64),
                (64, 200),
                (400, 64),
            ] {
                let mut bytes = numbered();
                let at = bytes.as_mut_ptr();
                let size = size.min(ROOM - from.max(to));
                // SAFETY: both ranges lie in `bytes`: at most 4000 + 5000 is more than its room only for the first, which was cut.
                let back = unsafe { libc::memmove(at.add(to).cast(), at.add(from).cast(), size) };
                assert_eq!(back.cast::<u8>(), at.wrapping_add(to));
                assert!(same(&bytes[..to], &source[..to]), "{size} {from} {to}");
                assert!(
                    same(&bytes[to..to + size], &source[from..from + size]),
                    "{size} {from} {to}"
                );
                assert!(
                    same(&bytes[to + size..], &source[to + size..]),
                    "{size} {from} {to}"
                );
            }
        }
    }

    #[test]
    fn bytes_are_set_and_no_others() {
        let source = numbered();
        for size in sizes() {
            let mut bytes = numbered();
            // SAFETY: 3 + 5000 is less than the room.
            unsafe { libc::memset(bytes.as_mut_ptr().add(3).cast(), 0xA5, size) };
            assert!(same(&bytes[..3], &source[..3]), "{size}");
            assert!(same(&bytes[3..3 + size], &vec![0xA5; size]), "{size}");
            assert!(same(&bytes[3 + size..], &source[3 + size..]), "{size}");
        }
    }

    #[test]
    fn the_first_difference_decides() {
        let one = numbered();
        // SAFETY: sizes are less than the room.
        let compared = |other: &[u8], size| unsafe {
            libc::memcmp(one.as_ptr().cast(), other.as_ptr().cast(), size)
        };
        for size in sizes() {
            assert_eq!(compared(&numbered(), size), 0, "{size}");
            for at in (0..size).rev().step_by(7) {
                let mut other = numbered();
                other[at] = one[at].wrapping_add(128);
                other[size] = 255;
                let expected = i32::from(one[at]) - i32::from(other[at]);
                assert_eq!(
                    compared(&other, size).signum(),
                    expected.signum(),
                    "{size} {at}"
                );
            }
        }
    }
}

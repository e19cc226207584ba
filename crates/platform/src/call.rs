//! syscall(2) with a frame of its own (stacks.rs). What is linked takes this one: the library's is of an archive that comes last.

std::arch::global_asm!(include_str!("call.s"));

#[cfg(test)]
mod tests {
    const SIZE: usize = 4096;

    /// mmap(2) has six arguments, and looks at the last one first.
    fn map(offset: libc::c_long) -> std::io::Result<u64> {
        // SAFETY: a mapping of its own, which nobody uses.
        crate::check(unsafe {
            libc::syscall(
                libc::SYS_mmap,
                0,
                SIZE,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1_isize,
                offset,
            )
        })
    }

    #[test]
    fn six_arguments_are_passed_and_errors_told() {
        let at = map(0).expect("mmap");
        // SAFETY: the mapping from above.
        let gone = unsafe { libc::syscall(libc::SYS_munmap, at, SIZE) };
        assert_eq!(gone, 0);
        let error = map(1).expect_err("no offset of a page");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}

//! The heap of a long-lived small process.

/// Gives free pages of the heap back to the kernel (malloc_trim(3)).
///
/// For a process that needed much once and will need little from then on.
pub fn trim() {
    // SAFETY: only walks and releases what the allocator holds free.
    unsafe { libc::malloc_trim(0) };
}

//! The heap of a long-lived process.

/// Bounds how many heaps the allocator keeps for its threads (mallopt(3),
/// `M_ARENA_MAX`): each keeps what its busiest moment needed.
pub fn limit_arenas(count: i32) {
    // SAFETY: sets a tunable; called before threads exist.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, count) };
}

/// Gives free pages of the heap back to the kernel (malloc_trim(3)).
///
/// For a process that needed much once and will need little from then on.
pub fn trim() {
    // SAFETY: only walks and releases what the allocator holds free.
    unsafe { libc::malloc_trim(0) };
}

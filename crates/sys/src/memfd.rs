//! A sealed copy of our own executable.
//!
//! A container that could write the binary of its monitor through
//! `/proc/*/exe` would own the host (CVE-2019-5736). Monitors therefore run
//! from memory that nobody can change.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Copies an executable into sealed memory.
///
/// The descriptor is close-on-exec and can be executed through
/// `/proc/self/fd/N`. Costs the file's size in memory, once.
/// Source: memfd_create(2), fcntl(2) "File Sealing".
pub fn seal_executable(executable: &mut File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 MFD_EXEC is unknown and every memfd executable.
    let memory = memfd_create(c"conex", flags | MemfdFlags::from_bits_retain(MFD_EXEC))
        .or_else(|_| memfd_create(c"conex", flags))?;
    let mut memory = File::from(memory);
    io::copy(executable, &mut memory)?;
    fcntl_add_seals(
        &memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memory.into())
}

const MFD_EXEC: u32 = 0x0010;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn sealed_memory_cannot_be_written() {
        let mut own = File::open("/proc/self/exe").unwrap();
        let sealed = seal_executable(&mut own).unwrap();
        let mut again = File::options()
            .write(true)
            .open(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&sealed)
            ))
            .unwrap();
        assert_eq!(
            again.write(b"x").unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
    }
}

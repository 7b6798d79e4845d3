//! Root file systems and other things the tests need, made on demand.
//!
//! The making itself is `tests/fixtures.sh`; a fixture that cannot be made here
//! is a reason to skip, told in words.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workspace;

/// Something `tests/fixtures.sh` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixture {
    /// A tar of one static busybox and its applets, with passwd and group files.
    Busybox,
    /// A tar of what debootstrap makes, over 100 MB.
    Debian,
    /// A layer of Debian's nginx and what it needs, to lie over [`Fixture::Debian`].
    Nginx,
    /// The same of Debian's Redis.
    Redis,
    /// The same of Debian's Tomcat with its Java, over 200 MB.
    Tomcat,
    /// Compose 2, a program of its own and a plugin.
    Compose2,
    /// The kernel of the test machine and its modules.
    Kernel,
}

/// Makes the fixture if it is missing and gives its path; the error is the
/// sentence to print with a skip.
pub fn make(fixture: Fixture) -> Result<PathBuf, String> {
    let (name, path) = match fixture {
        Fixture::Busybox => ("busybox", "fixtures/busybox.tar"),
        Fixture::Debian => ("debian", "fixtures/debian.tar"),
        Fixture::Nginx => ("nginx", "fixtures/nginx.tar"),
        Fixture::Redis => ("redis", "fixtures/redis.tar"),
        Fixture::Tomcat => ("tomcat", "fixtures/tomcat.tar"),
        Fixture::Compose2 => ("compose2", "fixtures/docker-compose-2"),
        Fixture::Kernel => ("kernel", "vm/kernel/vmlinuz"),
    };
    let path = workspace::target().join(path);
    if path.exists() {
        return Ok(path);
    }
    let output = Command::new(workspace::root().join("tests/fixtures.sh"))
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run tests/fixtures.sh: {e}"))?;
    if path.exists() {
        Ok(path)
    } else {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("no {name} fixture: {why}"))
    }
}

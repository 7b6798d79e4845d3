//! The init of `--init`: process 1 of a container, beside the program that was
//! asked for. It reaps orphans, passes signals on, and ends as the program does.
//!
//! It was the program's parent before it was this: the child between clone and
//! exec forked and executed our binary from its sealed copy, which nothing in the
//! container can write, whatever it may (CVE-2019-5736).

use std::process::ExitCode;

use conex_sys::child::INIT_CHILD;
use conex_sys::process;

/// The name it has in the container, as Docker's has.
pub(crate) const NAME: &str = "docker-init";

pub(crate) fn main() -> ExitCode {
    process::block_signals();
    let _name = rustix::thread::set_name(c"docker-init").is_err();
    let child = std::env::var(INIT_CHILD).ok();
    match child.and_then(|child| child.parse().ok()) {
        Some(child) => serve(child),
        None => {
            eprintln!("{NAME} is started by the engine only");
            ExitCode::FAILURE
        }
    }
}

fn serve(child: i32) -> ExitCode {
    loop {
        // The first look finds a child that ended before this program began.
        while let Ok(Some(ended)) = process::reap(-1) {
            if ended.pid == child {
                return ExitCode::from(u8::try_from(ended.code).unwrap_or(u8::MAX));
            }
        }
        match process::next_signal() {
            Ok(libc::SIGCHLD) => {}
            Ok(signal) => {
                // It may have ended just now: then its end is the next signal.
                let _ended = process::kill(child, signal).is_err();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

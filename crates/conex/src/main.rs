//! The conex binary: one program, several personalities, chosen by its own
//! name or its first word before any thread or runtime exists.
//!
//! | called as | is |
//! |---|---|
//! | `conex daemon`, `dockerd`, `conexd` | the engine |
//! | `conex monitor ID` | the process beside one container (started by the engine) |
//! | `conex netkeeper` | what must outlive an engine of its networks (started by the engine) |
//! | `conex runtime …` | an OCI runtime |
//! | `conex hello` | the built-in image's program |
//! | `docker-init` | process 1 of a container with `--init` (started by its monitor) |
//! | anything else, `docker` | the command line |

mod daemon;
mod hello;
mod init;
mod monitor;
mod netkeeper;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(|n| n.to_str());
    let word = args.get(1).and_then(|w| w.to_str());
    match (name, word) {
        (Some(init::NAME), _) => init::main(),
        (Some("dockerd" | "conexd"), _) => daemon::main(&args[1..]),
        (_, Some("daemon")) => daemon::main(&args[2..]),
        (_, Some("monitor")) => monitor::main(),
        (_, Some("netkeeper")) => netkeeper::main(),
        (_, Some("runtime")) => conex_runtime::command::main(args[2..].to_vec()),
        (_, Some("hello")) => hello::main(),
        _ => conex_cli::main(args),
    }
}

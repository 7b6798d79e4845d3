//! The OCI runtime alone, as a program: what the tests and foreign engines
//! execute where the whole of conex is not needed.

use std::process::ExitCode;

fn main() -> ExitCode {
    conex_runtime::command::main(std::env::args_os().skip(1).collect())
}

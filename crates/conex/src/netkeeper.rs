//! The netkeeper's personality: standard input is the link to the engine.

use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let link = match conex_sys::socket::inherited(0) {
        Ok(link) => link,
        Err(error) => {
            eprintln!("conex netkeeper is started by the engine only: {error}");
            return ExitCode::FAILURE;
        }
    };
    match conex_network::keeper::run(link) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conex netkeeper: {error}");
            ExitCode::FAILURE
        }
    }
}

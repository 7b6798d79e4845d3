//! `run`: creates a container, starts it, and stays with it unless detached.

use std::process::ExitCode;

use super::create::{self, Wanted, When, create};
use super::foreground::{Foreground, exit_code};
use super::{Error, Flag, Given, Globals, Verb, delete, seal, start, switch};

pub(super) const VERB: Verb = Verb {
    name: "run",
    about: "create and run a container",
    usage: "[-b BUNDLE] [--detach] [--keep] [--pid-file PATH] ID",
    flags: &FLAGS,
    run,
};

const FLAGS: [Flag; 9] = {
    let [
        bundle,
        console_socket,
        pid_file,
        preserve_fds,
        no_pivot,
        no_new_keyring,
    ] = create::FLAGS;
    [
        bundle,
        console_socket,
        pid_file,
        preserve_fds,
        no_pivot,
        no_new_keyring,
        switch("detach").short('d'),
        switch("keep"),
        switch("no-subreaper"),
    ]
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    seal::ensure()?;
    let detach = given.on("detach")?;
    let wanted = Wanted::read(given, When::Now, detach)?;
    let foreground = if detach {
        None
    } else {
        Some(Foreground::prepare()?)
    };
    let created = create(globals, &wanted)?;
    if created.when == When::Later
        && let Err(error) = start::start(globals, &created.container)
    {
        create::end(&created.launched);
        delete::delete(globals, &created.container)
            .unwrap_or_else(|error| globals.log.warn(&error.report()));
        return Err(error);
    }
    if created.when == When::Now {
        start::poststart(globals, &created.container, &wanted.spec);
    }
    let Some(foreground) = foreground else {
        return Ok(ExitCode::SUCCESS);
    };
    let code = foreground.wait(created.launched.into_pidfd(), created.terminal)?;
    if !given.on("keep")? {
        delete::delete(globals, &created.container)?;
    }
    Ok(exit_code(code))
}

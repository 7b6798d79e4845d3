//! The daemon's personality: dockerd's flags and configuration file, the
//! sockets, the engine, and an orderly end.

mod file;
mod flags;
mod settings;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use conex_cli::flag::Matches;
use conex_engine::Engine;
use conex_server::Server;
use tokio::signal::unix::{SignalKind, signal};

use settings::Settings;

/// How long a daemon that started itself stays without container or client.
const IDLE: Duration = Duration::from_secs(60);

pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let words: Vec<String> = args
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    match flags::parse(&words) {
        Ok(flags::Asked::Help(text)) => print(&text),
        Ok(flags::Asked::Version) => {
            print(&format!("Conex version {}\n", env!("CARGO_PKG_VERSION")))
        }
        Ok(flags::Asked::Run(matches)) => match settings::resolve(&matches) {
            Ok(settings) if settings.validate => print("configuration OK\n"),
            Ok(settings) => run(settings, matches),
            Err(error) => fail(&error),
        },
        Err(error) => {
            eprintln!("{error}\nSee 'conex daemon --help'.");
            ExitCode::from(125)
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("failed to start daemon: {error}");
    ExitCode::FAILURE
}

fn run(settings: Settings, matches: Matches) -> ExitCode {
    settings.start_logging();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    if !rustix::process::geteuid().is_root() {
        return fail(&"conex daemon needs to be started with root privileges");
    }
    // SIGCHLD, stdout and the rest of the environment are the shell's habits.
    conex_sys::process::ignore_signal(libc::SIGPIPE);
    // Blocking threads come and go; their heaps would stay.
    conex_sys::memory::limit_arenas(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("conex")
        // A start holds one while its monitor works.
        .max_blocking_threads(256)
        .build();
    match runtime {
        Ok(runtime) => match runtime.block_on(serve(settings, matches)) {
            Ok(()) => {
                // Blocking readers of logs may still wait for their clients.
                runtime.shutdown_timeout(Duration::from_secs(1));
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

async fn serve(settings: Settings, matches: Matches) -> Result<(), String> {
    let pidfile = settings.write_pidfile()?;
    let engine = Engine::open(settings.engine.clone())
        .await
        .map_err(|e| chain(&e))?;
    let server = match Server::bind(settings.server.clone()).await {
        Ok(server) => server,
        Err(error) => {
            // Nobody can reach this engine: what it made of bridges and rules goes with it.
            engine.shut_down(!settings.engine.live_restore).await;
            return Err(chain(&error));
        }
    };
    tokio::spawn(reload(engine.clone(), matches));
    let connections = server.connections();
    tracing::info!(id = engine.id(), "conex is ready");
    settings.announce_ready();

    let idle = settings
        .auto_start
        .then(|| idle(engine.clone(), connections.watch()));
    server.serve(engine.clone(), end(idle)).await;
    let patience = settings.shutdown_timeout;
    let down = engine.shut_down(!settings.engine.live_restore);
    match patience {
        Some(patience) if tokio::time::timeout(patience, down).await.is_err() => {
            tracing::warn!("containers were still running when the shutdown timeout was over");
        }
        Some(_) => {}
        None => engine.shut_down(!settings.engine.live_restore).await,
    }
    settings.remove_sockets();
    drop(pidfile);
    Ok(())
}

/// Reads the configuration again at every SIGHUP; what is about registries takes effect.
async fn reload(engine: Engine, matches: Matches) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        match settings::resolve(&matches) {
            Ok(settings) => {
                engine.set_registries(settings.engine.registry);
                tracing::info!("the configuration was read again: registries are set anew");
            }
            Err(error) => tracing::error!(error, "the configuration is not taken over"),
        }
    }
}

/// Until the daemon is told to end, or has nothing to do.
async fn end(idle: Option<impl Future<Output = ()>>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    let idle = async {
        match idle {
            Some(idle) => idle.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        () = idle => tracing::info!("nothing to do for {} s: ending", IDLE.as_secs()),
    }
}

/// Returns after a minute without client and container.
async fn idle(engine: Engine, mut connections: tokio::sync::watch::Receiver<usize>) {
    loop {
        if *connections.borrow_and_update() == 0 {
            let quiet = tokio::time::timeout(IDLE, connections.changed()).await;
            match quiet {
                Err(_) if engine.busy_containers() == 0 => return,
                Err(_) | Ok(Ok(())) => {}
                Ok(Err(_)) => return,
            }
        } else if connections.changed().await.is_err() {
            return;
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

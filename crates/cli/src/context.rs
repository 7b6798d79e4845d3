//! What every command works with: streams, global options, the engine's client
//! and the runtime that drives it.
//!
//! Nothing here is made before a command asks for it, so that a command that
//! needs no engine costs no socket and no runtime. It must not know any command.

use std::cell::OnceCell;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;

use conex_client::Client;

use crate::config::Config;
use crate::error::CliError;
use crate::output::Output;

/// The options given before the command.
#[derive(Clone, Debug, Default)]
pub struct Globals {
    /// `--config`, else the environment's, else `~/.docker`.
    pub config_dir: PathBuf,
    /// `--context`.
    pub context: Option<String>,
    /// Every `--host`, in order.
    pub hosts: Vec<String>,
    /// `--debug`.
    pub debug: bool,
    /// `--tls`, also implied by `--tlsverify`.
    pub tls: bool,
    /// `--tlsverify`, if it was given.
    pub tls_verify: Option<bool>,
    /// `--tlscacert`.
    pub tls_ca_cert: Option<PathBuf>,
    /// `--tlscert`.
    pub tls_cert: Option<PathBuf>,
    /// `--tlskey`.
    pub tls_key: Option<PathBuf>,
}

/// The surroundings of one command.
pub struct Context {
    /// The name the program was called by: `conex` or `docker`.
    pub program: String,
    /// Standard output.
    pub out: Output,
    /// Standard error.
    pub err: Output,
    /// The options given before the command.
    pub globals: Globals,
    config: OnceCell<Config>,
    client: OnceCell<Rc<Client>>,
    runtime: OnceCell<Rc<tokio::runtime::Runtime>>,
}

impl Context {
    /// Surroundings with the given streams; opens nothing.
    pub fn new(program: String, out: Output, err: Output, globals: Globals) -> Self {
        Self {
            program,
            out,
            err,
            globals,
            config: OnceCell::new(),
            client: OnceCell::new(),
            runtime: OnceCell::new(),
        }
    }

    /// The settings in the configuration directory, read at the first call.
    pub fn config(&self) -> &Config {
        self.config
            .get_or_init(|| Config::load(&self.globals.config_dir))
    }

    /// What was wrong with the settings file, once it was read.
    pub fn config_warning(&self) -> Option<String> {
        self.config.get().and_then(|config| config.warning.clone())
    }

    /// The engine's client, connected to where the options and the environment say.
    pub fn client(&self) -> Result<Rc<Client>, CliError> {
        if let Some(client) = self.client.get() {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(crate::connect::client(self)?);
        Ok(Rc::clone(self.client.get_or_init(|| client)))
    }

    /// The name of the context in use: `default` unless one is chosen.
    pub fn context_name(&self) -> String {
        crate::connect::context_name(self)
            .unwrap_or_else(|_| crate::connect::DEFAULT_CONTEXT.to_owned())
    }

    /// The single-threaded runtime, made at the first call.
    pub fn runtime(&self) -> Rc<tokio::runtime::Runtime> {
        Rc::clone(self.runtime.get_or_init(|| {
            Rc::new(
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime needs only an epoll descriptor"),
            )
        }))
    }

    /// Drives a future to its end on the runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A thread may still wait for standard input; nobody waits for it.
        if let Some(runtime) = self.runtime.take().and_then(Rc::into_inner) {
            runtime.shutdown_background();
        }
    }
}

//! The domain: containers, images, events, restore. No HTTP in here.
//!
//! ```text
//!             ┌ container::task (one owner per container: state.rs, pure) ──► monitor
//!  Engine ────┤ image (records, layers, import)
//!             ├ network (records, who is where) ──► conex-network, netkeeper
//!             ├ event (bus with a memory)
//!             └ state.db, image/image.db (every answer follows its commit)
//! ```
//!
//! *Invariants*: reads never wait for a busy container; a container's state is
//! moved by its task alone; an event is visible only after its state is.

mod check;
mod config;
pub mod container;
mod disk;
mod engine;
mod error;
mod event;
mod exec;
mod id;
mod image;
mod info;
mod name;
mod network;
mod pipe;
mod process;
mod registry;
mod time;
mod volume;

pub use config::Config;
pub use container::attach::Attachment;
pub use container::logs::Logs;
pub use engine::{Engine, OpenError};
pub use error::{Error, ErrorKind};
pub use network::{DefaultBridge, NetworkConfig};
pub use registry::RegistrySettings;

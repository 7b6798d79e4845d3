//! The child between clone and exec: a flat [`Plan`] of [`Step`]s that the
//! parent prepares completely and the child executes without allocating.
//!
//! ```text
//!   parent                                 child
//!   ──────                                 ─────
//!   Plan::spawn ── clone3 ───────────────► run steps 0..n
//!        ◄── w ─────────────────────────── (optional) AwaitParent
//!   write maps, run hooks, release ──────► goes on
//!        ◄── f, Failure{step,errno,..} ─── a step failed: 13 bytes, _exit
//!        ◄── x, end of file ────────────── exec succeeded (the pipe is CLOEXEC)
//! ```
//!
//! The crate knows what a step does to the kernel, not why a container wants
//! it: order and meaning belong to `conex-runtime`.

mod console;
mod exec;
mod filesystem;
mod identity;
mod init;
mod run;
mod spawn;
mod step;

pub use spawn::{Outcome, SpawnError, Spawned, read_outcome, wait};
pub use step::{
    CapabilityMasks, ExecCandidates, Failure, INIT_CHILD, Init, PREPARED, Plan, Reason,
    SchedulerAttributes, Step,
};

//! `conex system …`: commands on the engine itself.

pub mod events;
pub mod info;
pub mod version;

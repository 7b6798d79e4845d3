//! Layers on disk: storage drivers, unpacking an archive into a layer, and
//! what makes a stack of layers a root file system.
//!
//! **Invariant:** everything inside a layer is reached through a descriptor of
//! the layer's root and `openat2(RESOLVE_IN_ROOT)`, because every name in it
//! was chosen by someone else. The crate must not know images, containers or
//! registries: it gets names for layers and streams of bytes. It keeps no
//! records; which layers should exist is the engine's to know.

mod attribute;
pub mod below;
pub mod compare;
pub mod copy;
pub mod difference;
pub mod digest;
pub mod driver;
pub mod extract;
#[cfg(test)]
mod fixture;
pub mod implied;
pub mod init;
mod metadata;
pub mod overlay;
pub mod pack;
pub mod recipe;
pub mod rootfs;
pub mod tree;
pub mod unpack;

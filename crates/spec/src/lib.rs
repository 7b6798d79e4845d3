//! OCI runtime, image and distribution types, digests, references and platforms; pure.

mod absent;
pub mod digest;
pub mod image;
pub mod platform;
pub mod reference;
pub mod runtime;

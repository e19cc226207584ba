//! A server of files for a guest: the kernel's FUSE protocol (linux/fuse.h), which the guest's own kernel speaks, over a stream of bytes.
//!
//! The guest is hostile. A request is bounded and read field by field; a name is one component; what a name leads to is opened as a place (`O_PATH`), never
//! followed, and only a regular file or a directory is ever opened for more. Symbolic links are the guest's kernel's to resolve, devices, pipes and sockets its
//! own. What may be written is for the mounts of the host to say: a read-only bind refuses here, whatever the guest's kernel thinks.
#![forbid(unsafe_code)]

mod change;
mod content;
mod directory;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod nodes;
mod server;
#[cfg(test)]
mod tests;
mod wire;

#[cfg(feature = "fuzzing")]
pub use fuzzing::play;
pub use server::{MAX_REQUEST, MAX_WRITE, serve};

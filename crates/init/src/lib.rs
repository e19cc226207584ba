//! `init`: executes a plan on the host's kernel (docs/design/plan.md).
//!
//! `stage1` runs in the caller's namespaces and ends; `child` runs the operations in order and becomes the program.
#![forbid(unsafe_code)]

mod channel;
mod child;
mod error;
mod ops;
mod own_file;
mod root;
mod stage1;

pub use error::Error;
pub use own_file::run_protected;
pub use stage1::run;

//! The build context: the directory that `COPY` and `ADD` see, its Dockerfile and its
//! `.dockerignore`.
//!
//! A context is only ever read through a [`RootDir`](crate::rootfs::RootDir); what it holds may be
//! anybody's. An archive on standard input is unpacked by the layer room into a directory, which is
//! then opened with [`Context::open_unfiltered`]; [`Stdin::guess`] tells it from a Dockerfile.

mod glob;
mod ignore;
mod open;

pub use glob::{Glob, GlobError};
pub use ignore::{IgnoreError, IgnoreFile, Verdict};
pub use open::{Context, ContextError, Dockerfile, Stdin, decode, read_dockerfile};

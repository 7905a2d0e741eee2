//! The build context: the directory that `COPY` and `ADD` see, its Dockerfile and its
//! `.dockerignore`.
//!
//! A context is only ever read through a [`RootDir`](crate::rootfs::RootDir); what it holds may be
//! anybody's. A context that is an archive ([`unpack_context`]) lies in a staging directory of the
//! store for as long as it is open; [`Stdin::guess`] tells one on standard input from a Dockerfile.

mod archive;
mod glob;
mod ignore;
mod inputs;
mod open;

pub use archive::unpack_context;
pub use glob::{Glob, GlobError};
pub use ignore::{IgnoreError, IgnoreFile, Verdict};
pub use inputs::{Input, Inputs, Mtime};
pub use open::{Context, ContextError, Dockerfile, Stdin, decode, read_dockerfile};

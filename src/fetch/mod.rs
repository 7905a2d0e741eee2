//! Files from the network: what `ADD` names by a URL, and contexts that are not on this machine.
//!
//! * `http`: a file by `GET`, kept in the store and asked for anew with its validators
//! * `git`: a commit of a repository, by the `git` program of this machine
//! * `context`: which of the two a build context is, and what came of it
//!
//! On disk: the body of a URL is a blob of the store, beside it a record of where it came from and
//! how the server tells whether it changed (`store::fetched`); a git remote has a bare repository
//! there, so that the next build fetches what is new. Checkouts live in the store's `tmp/` and go
//! with the step that wanted them.
//!
//! Invariants: credentials go to the scheme, host and port they were given for, and are in no
//! record, no repository, no message and no argument of a program; a body has its name in the
//! store only when it came whole and is what its checksum says; nothing that a repository holds is
//! executed, and nothing is written outside of the directory it is checked out to; every wait ends
//! when the build is ended.

mod checksum;
mod context;
mod error;
mod git;
mod http;
mod network;

use std::any::Any;

use crate::store::Store;

pub use checksum::Checksum;
pub use context::{Fetched, RemoteContext};
pub use error::{Fault, FetchError, FetchErrorKind};
pub use git::{Checkout, Commit};
pub use http::FetchedFile;
pub use network::{Network, Settings};

/// Ends what is being fetched.
pub trait Stop: Sync {
    /// Whether it was ended.
    fn is_stopped(&self) -> bool;
    /// Has `end` called when it is, at once if it was, until what is given back is dropped.
    fn on_stop(&self, end: Box<dyn Fn() + Send>) -> Box<dyn Any>;
}

/// Fetches for one build.
pub struct Fetcher<'a> {
    /// Where what was fetched is kept.
    pub store: &'a Store,
    /// How the network is reached.
    pub network: &'a Network,
    /// A secret of the build by its name, as `HTTP_AUTH_TOKEN_example.com`.
    pub secret: &'a dyn Fn(&str) -> Option<String>,
    /// The socket of the agent that speaks for the user to ssh servers.
    pub ssh_agent: Option<std::path::PathBuf>,
    /// Ends it.
    pub stop: &'a dyn Stop,
    /// Told, in a line each, about what takes its time.
    pub note: &'a dyn Fn(&str),
}

#[cfg(test)]
mod tests;

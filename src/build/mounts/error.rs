//! [`MountError`]: what is wrong with a step's mount.

use crate::copy::CopyError;

/// A mount of a step cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// What it is made of is not there or cannot be read.
    #[error("cannot mount on {target}: {source}")]
    Source {
        /// Where it would appear.
        target: String,
        /// Why not.
        source: CopyError,
    },
    /// A cache begins with a file.
    #[error(
        "cannot mount a cache on {target}: {path:?} is no directory, and a cache begins with one"
    )]
    NoDirectory {
        /// Where it would appear.
        target: String,
        /// What it was to begin with.
        path: String,
    },
    /// A secret that must be there was not given.
    #[error("the secret {0:?} was not given: add --secret id={0},src=FILE or id={0},env=VARIABLE")]
    NoSecret(String),
    /// A secret that cannot be a variable.
    #[error("the secret {0:?} holds a NUL byte, so it cannot be a variable: mount it as a file")]
    BinarySecret(String),
    /// An agent that must be there was not given.
    #[error("the agent {0:?} was not given: add --ssh {0}, or --ssh {0}=SOCKET")]
    NoAgent(String),
}

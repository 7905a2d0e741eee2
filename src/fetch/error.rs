//! [`FetchError`]: what could not be fetched, why, and what the user can do.

use std::time::Duration;

use crate::http::{Failure, Retryable};
use crate::plan::GitUrlError;
use crate::store::StoreError;

/// Something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {subject}: {kind}{}", hint_of(kind))]
pub struct FetchError {
    /// The URL, without credentials.
    pub subject: String,
    /// Why.
    #[source]
    pub kind: Box<FetchErrorKind>,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum FetchErrorKind {
    /// The build was ended.
    #[error("cancelled")]
    Stopped,
    /// No answer came.
    #[error(transparent)]
    Http(#[from] Failure),
    /// The server does not have it, or not for us.
    #[error("the server says {status}")]
    Status {
        /// The HTTP status.
        status: reqwest::StatusCode,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer makes no sense, or leads where it is not followed.
    #[error("{0}")]
    BadAnswer(String),
    /// The body is longer than anything sensible.
    #[error("it is larger than {limit} bytes, which is more than is fetched")]
    TooLarge {
        /// How many bytes are accepted.
        limit: u64,
    },
    /// The content is not what the Dockerfile says.
    #[error("checksum mismatch: expected {expected}, got {got}")]
    Checksum {
        /// What the Dockerfile says.
        expected: String,
        /// What came.
        got: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no `git`.
    #[error("there is no git program on this machine")]
    NoGit,
    /// `git` failed.
    #[error("git {what}: {words}")]
    Git {
        /// Its subcommand.
        what: String,
        /// What it said.
        words: String,
        /// Whether the same may succeed a little later.
        passing: bool,
    },
    /// The repository has no such branch, tag or commit, or several.
    #[error("{0}")]
    Reference(String),
    /// What the repository holds is not taken.
    #[error("{0}")]
    Refused(String),
    /// A URL in the repository is none that is used.
    #[error(transparent)]
    Url(#[from] GitUrlError),
    /// Something on this machine failed.
    #[error("cannot {doing}: {source}")]
    Local {
        /// What was being done to which path.
        doing: String,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The network's or the server's.
    Network,
    /// What was asked for is wrong.
    Request,
    /// Something is missing on this machine.
    Environment,
}

impl FetchError {
    /// Whose fault it is; none where the cause tells.
    pub fn fault(&self) -> Option<Fault> {
        match &*self.kind {
            FetchErrorKind::Stopped | FetchErrorKind::Store(_) | FetchErrorKind::Local { .. } => {
                None
            }
            FetchErrorKind::Http(Failure::Threads { .. }) => Some(Fault::Environment),
            FetchErrorKind::Http(_)
            | FetchErrorKind::Status { .. }
            | FetchErrorKind::BadAnswer(_)
            | FetchErrorKind::Git { .. } => Some(Fault::Network),
            FetchErrorKind::TooLarge { .. }
            | FetchErrorKind::Checksum { .. }
            | FetchErrorKind::Reference(_)
            | FetchErrorKind::Refused(_)
            | FetchErrorKind::Url(_) => Some(Fault::Request),
            FetchErrorKind::NoGit => Some(Fault::Environment),
        }
    }
}

impl FetchErrorKind {
    pub(super) fn of(self, subject: &str) -> FetchError {
        FetchError {
            subject: crate::plan::masked(subject),
            kind: Box::new(self),
        }
    }

    pub(super) fn local(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Local { doing, source }
    }
}

impl Retryable for FetchErrorKind {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Http(Failure::Unreachable { .. } | Failure::Interrupted { .. }) => true,
            Self::Status { status, .. } => {
                status.is_server_error() || [408, 429].contains(&status.as_u16())
            }
            Self::Git { passing, .. } => *passing,
            _ => false,
        }
    }

    fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Http(Failure::Unreachable { .. }) | Self::Git { .. }
        )
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn hint_of(kind: &FetchErrorKind) -> &'static str {
    match kind {
        FetchErrorKind::NoGit => " (hint: install it, as with apt-get install git)",
        FetchErrorKind::Http(Failure::Unreachable { .. }) => {
            " (hint: check the network and the proxy variables)"
        }
        FetchErrorKind::Http(Failure::Tls { .. }) => {
            " (hint: for a private CA set ca under [registry.\"HOST\"] in the configuration file)"
        }
        FetchErrorKind::Status { status, .. } if [401, 403].contains(&status.as_u16()) => {
            " (hint: check the URL; what is not public needs credentials)"
        }
        FetchErrorKind::Status { status, .. } if [404, 410].contains(&status.as_u16()) => {
            " (hint: check the URL)"
        }
        _ => "",
    }
}

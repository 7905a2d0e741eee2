//! [`RegistryError`]: what was asked of which host, what came of it and what the user can do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::http::{Failure, Retryable};
use crate::image::Digest;
use crate::image::manifest::ManifestError;

/// A registry did not do what was asked of it.
#[derive(Debug)]
pub struct RegistryError {
    pub(super) action: &'static str,
    pub(super) subject: String,
    pub(super) host: String,
    pub(super) kind: Box<RegistryErrorKind>,
    /// What the mirrors that were asked before had said.
    pub(super) notes: Vec<String>,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum RegistryErrorKind {
    /// The registry does not know it.
    #[error("not found{}", dash(.detail))]
    NotFound {
        /// The registry's own words.
        detail: String,
    },
    /// The registry wants credentials, or better ones.
    #[error("not authorized{}", dash(.detail))]
    Unauthorized {
        /// The registry's own words, or what is wrong with the credentials.
        detail: String,
        /// Whether credentials were given.
        had_credentials: bool,
    },
    /// The credentials are good but not for this.
    #[error("access denied{}", dash(.detail))]
    Denied {
        /// The registry's own words.
        detail: String,
    },
    /// Too many requests.
    #[error("too many requests{}", dash(.detail))]
    RateLimited {
        /// How long the registry asks to be left alone.
        retry_after: Option<Duration>,
        /// The registry's own words.
        detail: String,
    },
    /// The registry has a trouble of its own (5xx).
    #[error("the registry is in trouble (status {status}){}", dash(.detail))]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// How long the registry asks to be left alone.
        retry_after: Option<Duration>,
        /// The registry's own words.
        detail: String,
    },
    /// No connection could be made.
    #[error("cannot be reached: {cause}")]
    Unreachable {
        /// The system's words.
        cause: String,
    },
    /// The connection broke or went silent.
    #[error("the connection broke: {cause}")]
    Interrupted {
        /// The system's words.
        cause: String,
    },
    /// The peer's certificate is not trusted, or the peer speaks no TLS.
    #[error("no trusted TLS connection: {cause}")]
    TlsFailure {
        /// What is wrong with it.
        cause: String,
    },
    /// The content is not what was asked for.
    #[error("digest mismatch: expected {expected}, got {got}")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes that came.
        got: Digest,
    },
    /// The content is shorter or longer than its descriptor says.
    #[error("size mismatch: expected {expected} bytes, the registry has {got}")]
    SizeMismatch {
        /// What the descriptor says.
        expected: u64,
        /// What the registry offers.
        got: u64,
    },
    /// The answer is longer than anything sensible.
    #[error("the answer is larger than {limit} bytes, which is more than is read of it")]
    TooLarge {
        /// How many bytes are accepted.
        limit: u64,
    },
    /// The answer makes no sense.
    #[error("unexpected answer: {detail}")]
    BadAnswer {
        /// What is wrong with it.
        detail: String,
    },
    /// The manifest cannot be used, or none fits the platform.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Writing what came, or reading what is to be sent, failed on this side.
    #[error("cannot {action} the content on this machine: {source}")]
    Local {
        /// `read` or `write`.
        action: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// Nobody wants the answer any more.
    #[error("it was ended")]
    Ended,
    /// The system gives no threads for requests.
    #[error("cannot start the threads for the network: {source}")]
    Threads {
        /// The system's words.
        source: io::Error,
    },
    /// A setting of ours is wrong.
    #[error("{detail}")]
    Settings {
        /// Which, and how.
        detail: String,
    },
}

fn dash(detail: &str) -> String {
    match detail {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

impl RegistryErrorKind {
    /// Whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Unavailable { .. }
                | Self::Unreachable { .. }
                | Self::Interrupted { .. }
        )
    }

    pub(super) fn bad_answer(detail: impl Into<String>) -> Self {
        Self::BadAnswer {
            detail: detail.into(),
        }
    }

    /// What the user can do about it.
    fn hint(&self, host: &str) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "check the spelling of the name and the tag".to_owned(),
            Self::Unauthorized {
                had_credentials: false,
                ..
            } => format!(
                "if it exists it is private: run `lapstrake login {host}`, or check the name"
            ),
            Self::Unauthorized { .. } | Self::Denied { .. } => {
                format!("check the name and the account, or run `lapstrake login {host}` again")
            }
            Self::RateLimited { .. } => format!(
                "wait, log in with `lapstrake login {host}`, or name a mirror with \
                 --registry-mirror"
            ),
            Self::Unreachable { .. } => "check the network and the proxy variables, or name a \
                                         mirror with --registry-mirror"
                .to_owned(),
            Self::TlsFailure { .. } => format!(
                "for a private CA set ca, for a registry without TLS set plain-http = true under \
                 [registry.\"{host}\"] in the configuration file"
            ),
            Self::Unavailable { .. } | Self::Interrupted { .. } => "try again later".to_owned(),
            _ => return None,
        })
    }

    pub(super) fn at(self, action: &'static str, subject: String, host: &str) -> RegistryError {
        RegistryError {
            action,
            subject,
            host: host.to_owned(),
            kind: Box::new(self),
            notes: Vec::new(),
        }
    }
}

impl Retryable for RegistryErrorKind {
    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }

    fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

impl From<Failure> for RegistryErrorKind {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable { cause } => Self::Unreachable { cause },
            Failure::Interrupted { cause } => Self::Interrupted { cause },
            Failure::Tls { cause } => Self::TlsFailure { cause },
            Failure::Redirect { cause } => Self::BadAnswer { detail: cause },
            Failure::Settings { detail } => Self::Settings { detail },
            Failure::Threads { source } => Self::Threads { source },
        }
    }
}

impl RegistryError {
    /// Why it failed.
    pub fn kind(&self) -> &RegistryErrorKind {
        &self.kind
    }

    /// The host that was asked, with its port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the same may succeed a little later: a network's or a registry's passing trouble.
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            action,
            subject,
            host,
            kind,
            notes,
        } = self;
        write!(f, "cannot {action} {subject}: {host}: {kind}")?;
        for note in notes {
            write!(f, "; before that, {note}")?;
        }
        match kind.hint(host) {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl StdError for RegistryError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.kind {
            RegistryErrorKind::Local { source, .. } => Some(source),
            _ => None,
        }
    }
}

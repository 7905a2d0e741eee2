//! [`Failure`]: why a request brought no answer.

use std::error::Error as StdError;
use std::io;

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
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
    /// The peer's certificate is not trusted, or TLS cannot be set up.
    #[error("no trusted TLS connection: {cause}")]
    Tls {
        /// What is wrong with it.
        cause: String,
    },
    /// It leads where it is not followed.
    #[error("unexpected answer: {cause}")]
    Redirect {
        /// Where, or how often.
        cause: String,
    },
    /// The system gives no threads for requests.
    #[error("cannot start the threads for the network: {source}")]
    Threads {
        /// The system's words.
        source: std::io::Error,
    },
    /// A setting of ours is wrong.
    #[error("{detail}")]
    Settings {
        /// Which, and how.
        detail: String,
    },
}

impl From<reqwest::Error> for Failure {
    /// Addresses are left out: after a redirect they may hold secrets.
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let cause = chain(&error);
        if let Some(tls) = find_tls(&error) {
            let no_tls = matches!(tls, rustls::Error::InvalidMessage(_));
            return match no_tls {
                true => Self::Unreachable {
                    cause: "it speaks no TLS".to_owned(),
                },
                false => Self::Tls { cause },
            };
        }
        match () {
            () if error.is_connect() => Self::Unreachable { cause },
            () if error.is_redirect() => Self::Redirect { cause },
            () => Self::Interrupted { cause },
        }
    }
}

fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The last cause is what people need; those above it only say that a request failed.
pub fn chain(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

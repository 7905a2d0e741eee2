//! The HTTP client, as everything that speaks HTTP uses it: TLS with the system's roots and the
//! user's, the proxies of the builder's environment, what a failed request means, when it is sent
//! again, and the threads behind it.
//!
//! It knows of no protocol on top: registries are `registry/`'s matter, files `fetch/`'s.
//!
//! Invariants: a host on this machine is never asked through a proxy; addresses do not stand in
//! failures, because after a redirect they may hold secrets; no thread starts before the first
//! request, so that the program can enter its sandbox before there are any.

mod client;
mod failure;
mod retry;
mod threads;

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

pub use client::{client, is_loopback};
pub use failure::{Failure, chain};
pub use retry::{Pause, Retry, Retryable};
pub use threads::Threads;

/// How long an answer, or the next part of one, may take.
pub const ANSWER: Duration = Duration::from_secs(60);

/// Waits for `work` as long as an answer may take.
///
/// # Errors
/// [`Failure::Interrupted`] when nothing came.
pub async fn patiently<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(patience, work)
        .await
        .map_err(|_| Failure::Interrupted {
            cause: format!("nothing came for {} s", patience.as_secs()),
        })
}

/// How long an answer asks to be left alone: `Retry-After`, seconds or a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    pause_of(headers.get(RETRY_AFTER)?.to_str().ok()?)
}

fn pause_of(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let pause = date(text)? - time::OffsetDateTime::now_utc();
    Some(pause.try_into().unwrap_or_default())
}

/// A date as HTTP writes it (`Wed, 21 Oct 2015 07:28:00 GMT`).
pub fn date(text: &str) -> Option<time::OffsetDateTime> {
    use time::format_description::well_known::Rfc2822;
    let date = text.trim().replace("GMT", "+0000");
    time::OffsetDateTime::parse(&date, &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pauses() {
        assert_eq!(pause_of("7"), Some(Duration::from_secs(7)));
        let past = pause_of("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(pause_of("soon"), None);
    }
}

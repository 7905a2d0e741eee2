//! How often and when a request is repeated: doubling pauses with some chance in them, or the pause
//! that the server asks for.

use std::time::Duration;

/// A server that asks for a longer pause than this is not waited for.
const LONGEST: Duration = Duration::from_secs(120);

/// An unreachable host is rarely there a little later, and a misspelt one never.
const UNREACHABLE_ATTEMPTS: u32 = 3;

/// A failure that may pass.
pub trait Retryable {
    /// Whether the same request may succeed a little later.
    fn is_retryable(&self) -> bool;
    /// Whether no connection could be made at all.
    fn is_unreachable(&self) -> bool;
    /// How long the server asks to be left alone.
    fn retry_after(&self) -> Option<Duration>;
}

/// Counts attempts.
pub struct Retry {
    attempts: u32,
    pause: Duration,
    made: u32,
}

impl Retry {
    /// At most `attempts` in all; `pause` before the second.
    pub fn new(attempts: u32, pause: Duration) -> Self {
        Self {
            attempts,
            pause,
            made: 0,
        }
    }

    /// Forgets the failures so far: something was achieved since.
    pub fn reset(&mut self) {
        self.made = 0;
    }

    /// How long to wait before the next attempt, or the error if there is to be none.
    ///
    /// # Errors
    /// The same error, when it is final.
    pub fn after<E: Retryable>(&mut self, error: E) -> Result<Pause<E>, E> {
        self.made += 1;
        let attempts = match error.is_unreachable() {
            true => self.attempts.min(UNREACHABLE_ATTEMPTS),
            false => self.attempts,
        };
        let asked = error.retry_after();
        let too_long = asked.is_some_and(|pause| pause > LONGEST);
        if !error.is_retryable() || too_long || self.made >= attempts {
            return Err(error);
        }
        let doubled = self.pause * 2u32.saturating_pow(self.made - 1).min(64);
        Ok(Pause {
            length: asked.unwrap_or_default().max(jittered(doubled)),
            cause: error,
        })
    }
}

/// A pause before the next attempt, and why it is needed.
pub struct Pause<E> {
    /// How long.
    pub length: Duration,
    /// What failed.
    pub cause: E,
}

/// Between half and all of `pause`, so that many builds do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128u8];
    // Without randomness every build pauses equally long, which is no harm.
    if getrandom::fill(&mut byte).is_err() {
        return pause;
    }
    pause / 2 + pause * u32::from(byte[0]) / 510
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Limited(Option<u64>);

    impl Retryable for Limited {
        fn is_retryable(&self) -> bool {
            self.0 != Some(0)
        }
        fn is_unreachable(&self) -> bool {
            false
        }
        fn retry_after(&self) -> Option<Duration> {
            self.0.map(Duration::from_secs)
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut retry = Retry::new(4, Duration::from_secs(1));
        for most in [1, 2, 4] {
            let pause = retry
                .after(Limited(None))
                .ok()
                .unwrap()
                .length
                .as_secs_f64();
            assert!(
                (f64::from(most) / 2.0..=f64::from(most)).contains(&pause),
                "{pause}"
            );
        }
        assert!(retry.after(Limited(None)).is_err());
    }

    #[test]
    fn the_server_says_when() {
        let mut retry = Retry::new(4, Duration::from_millis(1));
        assert_eq!(
            retry.after(Limited(Some(7))).ok().unwrap().length.as_secs(),
            7
        );
        assert!(retry.after(Limited(Some(3600))).is_err());
        assert!(
            Retry::new(4, Duration::ZERO)
                .after(Limited(Some(0)))
                .is_err()
        );
    }
}

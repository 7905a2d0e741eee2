//! [`NamedFiles`]: named contexts that are files, each opened when a step first asks for it.

use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};

use super::Environment;
use crate::context::Context;

type Open<'a> = dyn Fn() -> Result<Context> + Send + Sync + 'a;

/// A context that is opened, or fetched, at most once and only if it is used.
pub struct NamedFiles<'a> {
    open: Box<Open<'a>>,
    opening: Mutex<()>,
    opened: OnceLock<Context>,
}

impl<'a> NamedFiles<'a> {
    /// A context that `open` gives.
    pub fn new(open: impl Fn() -> Result<Context> + Send + Sync + 'a) -> Self {
        Self {
            open: Box::new(open),
            opening: Mutex::default(),
            opened: OnceLock::new(),
        }
    }

    /// The open context; whoever asks while it is being opened waits.
    ///
    /// # Errors
    /// Those of opening it; the next one who asks tries again.
    pub fn get(&self) -> Result<&Context> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        match self.opened.get() {
            Some(context) => Ok(context),
            None => {
                let context = (self.open)()?;
                Ok(self.opened.get_or_init(|| context))
            }
        }
    }

    /// The context, if it was opened.
    pub fn opened(&self) -> Option<&Context> {
        self.opened.get()
    }
}

impl<'a> Environment<'a> {
    /// The named context that the plan has under `number`.
    pub(super) fn named(&self, number: usize) -> Result<&'a Context> {
        self.cancel.check()?;
        let files = self.named.get(number);
        let files = files.ok_or_else(|| anyhow!("there is no named context {number}"))?;
        files.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_context_is_opened_once_and_only_if_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let count = AtomicU32::new(0);
        let files = NamedFiles::new(|| {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(anyhow!("not the first time"));
            }
            Ok(Context::open_unfiltered(dir.path())?)
        });
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(files.get().is_err());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| files.get().unwrap());
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}

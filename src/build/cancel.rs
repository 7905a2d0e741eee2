//! [`Cancel`]: ends everything that a build is doing.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fetch::Stop;

/// Why a build was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A signal of this number asked for it.
    Signal(i32),
    /// A step failed, and nothing that follows can be of use.
    Failure,
}

/// The build was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled(pub Why);

type Kill = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    why: Option<Why>,
    running: BTreeMap<u64, Kill>,
}

/// Shared by every thread of a build: asked before each step, told of each running process.
#[derive(Clone, Default)]
pub struct Cancel {
    state: Arc<Mutex<State>>,
    next: Arc<AtomicU64>,
}

impl Cancel {
    /// Ends every running process and lets no new one begin. The first reason stands.
    pub fn cancel(&self, why: Why) {
        let mut state = self.lock();
        state.why.get_or_insert(why);
        for kill in state.running.values() {
            kill();
        }
    }

    /// Why the build was ended, if it was.
    pub fn why(&self) -> Option<Why> {
        self.lock().why
    }

    /// An error once the build was ended.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        self.why().map_or(Ok(()), |why| Err(Cancelled(why)))
    }

    /// Has `kill` called when the build is ended, at once if it was ended already, until the
    /// guard is dropped.
    pub fn on_cancel(&self, kill: impl Fn() + Send + 'static) -> Guard {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        if state.why.is_some() {
            kill();
        }
        state.running.insert(key, Box::new(kill));
        Guard {
            cancel: self.clone(),
            key,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop for Cancel {
    fn is_stopped(&self) -> bool {
        self.why().is_some()
    }

    fn on_stop(&self, end: Box<dyn Fn() + Send>) -> Box<dyn Any> {
        Box::new(self.on_cancel(end))
    }
}

/// Takes its callback back when dropped.
pub struct Guard {
    cancel: Cancel,
    key: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.cancel.lock().running.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn kills_what_runs_and_what_begins_later() {
        let cancel = Cancel::default();
        let killed = Arc::new(AtomicU32::new(0));
        let kill = || {
            let killed = Arc::clone(&killed);
            move || {
                killed.fetch_add(1, Ordering::Relaxed);
            }
        };
        drop(cancel.on_cancel(kill()));
        let _running = cancel.on_cancel(kill());
        assert_eq!(cancel.check(), Ok(()));
        cancel.cancel(Why::Signal(2));
        cancel.cancel(Why::Failure);
        assert_eq!(
            killed.load(Ordering::Relaxed),
            2,
            "the running one, asked twice"
        );
        let _late = cancel.on_cancel(kill());
        assert_eq!(killed.load(Ordering::Relaxed), 3);
        assert_eq!(cancel.check(), Err(Cancelled(Why::Signal(2))));
    }
}

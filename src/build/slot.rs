//! [`Slot`]: a value that one thread makes and others wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Nothing will come: whoever was to make the value failed or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what this step needs was not built")]
pub struct Abandoned;

enum State<T> {
    Pending,
    Ready(T),
    Abandoned,
}

/// Set once, read by all.
pub struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::Pending),
            changed: Condvar::new(),
        }
    }
}

impl<T: Clone> Slot<T> {
    /// Hands the value to all who wait and will wait.
    pub fn set(&self, value: T) {
        *self.lock() = State::Ready(value);
        self.changed.notify_all();
    }

    /// Tells all who wait that nothing will come; a value that is there stays.
    pub fn abandon(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Pending) {
            *state = State::Abandoned;
        }
        self.changed.notify_all();
    }

    /// Whether nobody who asks now has to wait.
    pub fn is_set(&self) -> bool {
        !matches!(*self.lock(), State::Pending)
    }

    /// The value, as soon as it is there.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn wait(&self) -> Result<T, Abandoned> {
        let mut state = self.lock();
        loop {
            match &*state {
                State::Ready(value) => return Ok(value.clone()),
                State::Abandoned => return Err(Abandoned),
                State::Pending => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_who_waits_is_told() {
        for (value, expected) in [(Some(7), Ok(7)), (None, Err(Abandoned))] {
            let slot = Slot::default();
            std::thread::scope(|scope| {
                let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| slot.wait())).collect();
                match value {
                    Some(value) => slot.set(value),
                    None => slot.abandon(),
                }
                for waiter in waiters {
                    assert_eq!(waiter.join().unwrap(), expected);
                }
            });
            slot.abandon();
            assert_eq!(slot.wait(), expected);
        }
    }
}

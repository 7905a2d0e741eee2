//! [`InFlight`]: the steps of one build by their keys, so that equal ones are executed once.
//!
//! Whoever asks for a key first makes its value; all others wait for that. Making it is a duty: if
//! it is given up, by an error or a panic, those who wait are told with [`Abandoned`], which is never
//! the cause of a build's failure.
//!
//! [`Abandoned`]: super::slot::Abandoned

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use super::slot::Slot;

/// Values that are made once for each key.
pub(super) struct InFlight<K, T>(Mutex<HashMap<K, Arc<Slot<T>>>>);

/// Whose turn it is to make a value.
pub(super) enum Turn<T: Clone> {
    /// The caller's.
    Mine(Duty<T>),
    /// Somebody else's: wait for it.
    Theirs(Arc<Slot<T>>),
}

/// The duty to make a value; dropped without [`Duty::fulfil`], nothing will come.
pub(super) struct Duty<T: Clone>(Arc<Slot<T>>);

impl<K, T> Default for InFlight<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, T: Clone> InFlight<K, T> {
    /// Whose turn it is to make the value of `key`.
    pub(super) fn turn(&self, key: K) -> Turn<T> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get(&key) {
            Some(slot) => Turn::Theirs(Arc::clone(slot)),
            None => {
                let slot: Arc<Slot<T>> = Arc::default();
                slots.insert(key, Arc::clone(&slot));
                Turn::Mine(Duty(slot))
            }
        }
    }
}

impl<T: Clone> Duty<T> {
    /// Hands the value to all who wait.
    pub(super) fn fulfil(self, value: T) {
        self.0.set(value);
    }
}

impl<T: Clone> Drop for Duty<T> {
    fn drop(&mut self) {
        // A value that is there stays.
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::Abandoned;
    use super::*;

    #[test]
    fn the_first_makes_it_for_all_and_leaves_nobody_waiting() {
        for (end, expected) in [
            (Some(7), Ok(7)),
            // A panic ends like an error does.
            (None, Err(Abandoned)),
        ] {
            let steps = InFlight::default();
            let Turn::Mine(duty) = steps.turn("a") else {
                panic!("nobody was before");
            };
            assert!(matches!(steps.turn("b"), Turn::Mine(_)));
            std::thread::scope(|scope| {
                let waiters: Vec<_> = (0..3)
                    .map(|_| {
                        let Turn::Theirs(slot) = steps.turn("a") else {
                            panic!("it is being made");
                        };
                        scope.spawn(move || slot.wait())
                    })
                    .collect();
                match end {
                    Some(value) => duty.fulfil(value),
                    None => drop(
                        scope
                            .spawn(move || {
                                let _held = duty;
                                std::panic::resume_unwind(Box::new("a thread is lost"));
                            })
                            .join(),
                    ),
                }
                for waiter in waiters {
                    assert_eq!(waiter.join().unwrap(), expected);
                }
            });
        }
    }
}

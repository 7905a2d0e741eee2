//! What a stage does while it waits for another one: it has its own layers brought.
//!
//! Layers come when they are needed, which is too late for a stage that waits first: the download of
//! its base and the steps of the other stage take their time one after the other. So once any step of
//! the build is executed, after which a stage that depends on another hardly ever finds all of its own
//! in the cache, a stage that waits brings its layers meanwhile. A build that executes nothing brings
//! nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::image::BuiltLayer;
use super::scheduler::Shared;
use super::stage::Finished;
use anyhow::Result;

/// Whether any step was executed in this build.
#[derive(Default)]
pub(super) struct Executing {
    state: Mutex<bool>,
    changed: Condvar,
}

impl Executing {
    /// A step is about to be executed.
    pub(super) fn begins(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut *state, true) {
            self.changed.notify_all();
        }
    }

    /// Waits until a step is executed, or until `is_over` says that it no longer matters, which is
    /// followed by [`Executing::wake`]. Whether one is executed.
    fn wait(&self, is_over: &Mutex<bool>) -> bool {
        let mut state = self.lock();
        loop {
            if *is_over.lock().unwrap_or_else(PoisonError::into_inner) {
                return false;
            }
            if *state {
                return true;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self, is_over: &Mutex<bool>) {
        // Under the lock under which it is looked at: nobody goes to sleep after having looked.
        let _state = self.lock();
        *is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the stage at `index`; meanwhile `own`, the layers of the stage that waits, may come.
pub(super) fn wait(shared: &Shared<'_>, index: usize, own: &[BuiltLayer]) -> Result<Finished> {
    if shared.is_finished(index) || own.iter().all(|built| built.layer.is_open()) {
        return shared.stage(index);
    }
    let is_over = Mutex::new(false);
    std::thread::scope(|scope| {
        let bring = || {
            if shared.executing.wait(&is_over) {
                // Whoever needs them asks again, and is told why they cannot be had.
                drop(shared.env.stack(own));
            }
        };
        let name = "layers".to_owned();
        // Without a thread they come later.
        let _ahead = std::thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, bring);
        let _wake = Wake(&shared.executing, &is_over);
        shared.stage(index)
    })
}

/// Wakes the thread that brings layers, or has not begun to, when the wait is over.
struct Wake<'a>(&'a Executing, &'a Mutex<bool>);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.wake(self.1);
    }
}

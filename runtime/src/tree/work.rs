//! [`share`]: threads that take from one list of things to do, to which each may add.

use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Error;

/// No more threads than this: beyond, they wait for the disk or for each other's directories.
const MOST: usize = 4;

/// Makes what a thread has of its own.
type New<'f, S> = dyn Fn() -> S + Sync + 'f;
/// Does one thing with what a thread has, and adds to the list.
type Each<'f, S, T> = dyn Fn(&mut S, T, &mut Vec<T>) -> Result<(), Error> + Sync + 'f;

/// Does everything of `first` and what is added meanwhile, in no order. `each` gets what is `new`
/// for its thread, one thing, and the list to add to. Gives what the threads had.
pub fn share<T: Send, S: Send>(
    first: Vec<T>,
    new: &New<'_, S>,
    each: &Each<'_, S, T>,
) -> Result<Vec<S>, Error> {
    let queue = Queue {
        inner: Mutex::new(Inner {
            todo: first,
            busy: 0,
            failed: None,
        }),
        changed: Condvar::new(),
    };
    let wanted = thread::available_parallelism().map_or(1, NonZero::get);
    let states = thread::scope(|scope| {
        let mut helpers = Vec::new();
        for _ in 1..wanted.min(MOST) {
            let name = "tree".to_owned();
            match thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, || queue.work(new, each))
            {
                Ok(helper) => helpers.push(helper),
                // Where there can be no more threads, those that are do.
                Err(_) => break,
            }
        }
        let mut states = vec![queue.work(new, each)];
        for helper in helpers {
            match helper.join() {
                Ok(state) => states.push(state),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        states
    });
    let failed = queue.lock().failed.take();
    match failed {
        Some(error) => Err(error),
        None => Ok(states),
    }
}

struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

struct Inner<T> {
    todo: Vec<T>,
    /// How many threads may still add something.
    busy: usize,
    failed: Option<Error>,
}

impl<T> Queue<T> {
    fn work<S>(&self, new: &New<'_, S>, each: &Each<'_, S, T>) -> S {
        let mut state = new();
        let mut added = Vec::new();
        while let Some((thing, _busy)) = self.next() {
            let done = each(&mut state, thing, &mut added);
            let mut inner = self.lock();
            inner.todo.append(&mut added);
            if let Err(error) = done {
                inner.failed.get_or_insert(error);
            }
        }
        state
    }

    /// Something to do; none when all is done or something failed.
    fn next(&self) -> Option<(T, Busy<'_, T>)> {
        let mut inner = self.lock();
        loop {
            if inner.failed.is_some() {
                return None;
            }
            if let Some(thing) = inner.todo.pop() {
                inner.busy += 1;
                return Some((thing, Busy(self)));
            }
            if inner.busy == 0 {
                return None;
            }
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody at work; also one who panics is so no longer, and the others end.
struct Busy<'q, T>(&'q Queue<T>);

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_added_is_done_and_the_first_error_ends_it() {
        let grow = |sum: &mut u64, n: u64, more: &mut Vec<u64>| {
            *sum += 1;
            more.extend((n > 0).then(|| [n - 1, n - 1]).into_iter().flatten());
            Ok(())
        };
        let sums = share(vec![10], &|| 0, &grow).unwrap();
        assert_eq!(sums.iter().sum::<u64>(), (1 << 11) - 1);
        let fail = |_: &mut (), n: u64, more: &mut Vec<u64>| {
            more.push(n + 1);
            match n {
                100 => Err(Error::io("count", Path::new("/"))(io::Error::other(
                    "enough",
                ))),
                _ => Ok(()),
            }
        };
        assert!(share(vec![0], &|| (), &fail).is_err());
    }
}

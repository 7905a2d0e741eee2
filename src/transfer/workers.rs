//! [`each`]: the same deed for several things at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Calls `deed` for every item on up to `threads` threads; the first failure, by the items' order,
/// is the result, and after any failure nothing new is begun.
///
/// # Errors
/// Those of `deed`.
pub fn each<T: Sync, E: Send>(
    threads: usize,
    items: &[T],
    deed: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().try_for_each(deed);
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failures: Mutex<Vec<(usize, E)>> = Mutex::new(Vec::new());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            if let Err(error) = deed(item) {
                stop.store(true, Ordering::Relaxed);
                let mut failures = failures.lock().unwrap_or_else(|poison| poison.into_inner());
                failures.push((at, error));
            }
        }
    };
    std::thread::scope(|scope| {
        // We are one of them, so that the work is done where no thread can be had.
        for _ in 1..threads.min(items.len()) {
            if std::thread::Builder::new()
                .spawn_scoped(scope, work)
                .is_err()
            {
                break;
            }
        }
        work();
    });
    let mut failures = failures
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    failures.sort_by_key(|(at, _)| *at);
    match failures.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_each_once_and_reports_a_failure() {
        for threads in [1, 2, 8] {
            let sum = AtomicUsize::new(0);
            let items: Vec<usize> = (0..100).collect();
            let result: Result<(), ()> = each(threads, &items, |item| {
                sum.fetch_add(*item, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!((result, sum.into_inner()), (Ok(()), 4950));
            let result = each(
                threads,
                &items,
                |item| if *item == 7 { Err(7) } else { Ok(()) },
            );
            assert_eq!(result, Err(7));
        }
    }
}

//! [`Jobs`]: how much work is done at a time (`--jobs`).
//!
//! Work takes a [`Permit`] for as long as it computes: a RUN while its process lives, a copy while it
//! reads and writes, a layer while it is unpacked. Waiting needs none, for another stage, a cache
//! mount, the network; and nobody waits for any of these with a permit in hand, so that the last one
//! with a permit always comes to an end and gives it back.
//!
//! A RUN may wait, too, for the network or a clock. While others want a permit, its processes are
//! watched ([`Activity`]): a step whose processes sleep gives its permit up, and takes it back, over
//! the bound if it must, when they wake. A step cannot be made to wait in the middle; but as long as
//! there are more at work than there are permits, nothing new begins.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::activity::Activity;
use super::cancel::{Cancel, Cancelled};

/// How often a step is looked at in its first moments, in which most turn out to sleep or not.
const OFTEN: Duration = Duration::from_millis(2);
/// How long these last.
const EARLY: Duration = Duration::from_millis(200);
/// How often it is looked at later.
const SELDOM: Duration = Duration::from_millis(20);
/// Looking takes no more than this part of the time.
const SHARE: u32 = 20;
/// How often those who wait look whether the build was ended.
const PATIENCE: Duration = Duration::from_millis(50);

/// The permits of a build.
pub struct Jobs {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    at_work: BTreeMap<u64, Work>,
    waiting: usize,
    is_over: bool,
}

/// What has a permit.
struct Work {
    began: Instant,
    /// Given up for as long as its processes sleep.
    sleeps: bool,
    /// How to tell that they do; none for what always computes.
    activity: Option<Activity>,
}

impl Jobs {
    /// At most `limit` at a time, at least one.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// How many at a time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`Cancelled`] when the build was ended before there was one.
    pub fn take(&self, cancel: &Cancel) -> Result<Permit<'_>, Cancelled> {
        let mut state = self.lock();
        state.waiting += 1;
        if state.waiting == 1 {
            // Whoever looks for sleepers has had no reason to so far.
            self.changed.notify_all();
        }
        let taken = loop {
            if let Err(cancelled) = cancel.check() {
                break Err(cancelled);
            }
            if state.awake() < self.limit {
                break Ok(());
            }
            state = self.wait(state, Some(PATIENCE));
        };
        state.waiting -= 1;
        taken?;
        let number = state.next;
        state.next += 1;
        let work = Work {
            began: Instant::now(),
            sleeps: false,
            activity: None,
        };
        state.at_work.insert(number, work);
        Ok(Permit { jobs: self, number })
    }

    /// Looks for steps that sleep while others wait, until [`Jobs::end`]. For a thread of its own.
    pub(super) fn watch(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let is_wanted = state.waiting > 0 || state.at_work.values().any(|work| work.sleeps);
            if !is_wanted {
                state = self.wait(state, None);
                continue;
            }
            let began = Instant::now();
            if state.look() {
                self.changed.notify_all();
            }
            let early = |work: &Work| work.activity.is_some() && work.began.elapsed() < EARLY;
            let pause = match state.at_work.values().any(early) {
                true => OFTEN,
                false => SELDOM,
            };
            let until = Instant::now() + pause.max(began.elapsed() * SHARE);
            while !state.is_over && Instant::now() < until {
                state = self.wait(state, Some(until - Instant::now()));
            }
        }
    }

    /// Makes ready for [`Jobs::watch`], once more if a build begins anew.
    pub(super) fn begin(&self) {
        self.lock().is_over = false;
    }

    /// Ends [`Jobs::watch`].
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'s, State> {
        match at_most {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => {
                let waited = self.changed.wait_timeout(state, at_most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn awake(&self) -> usize {
        self.at_work.values().filter(|work| !work.sleeps).count()
    }

    /// Looks at every step once; whether one has fallen asleep.
    fn look(&mut self) -> bool {
        let mut is_new = false;
        for work in self.at_work.values_mut() {
            if let Some(activity) = &mut work.activity {
                let sleeps = !activity.is_busy();
                is_new |= sleeps && !work.sleeps;
                work.sleeps = sleeps;
            }
        }
        is_new
    }
}

/// The right to compute; dropping it gives it back.
pub struct Permit<'a> {
    jobs: &'a Jobs,
    number: u64,
}

impl Permit<'_> {
    /// From now on the work is what the process `root` and those below it do.
    pub(super) fn is_for(&self, root: u32) {
        if let Some(work) = self.jobs.lock().at_work.get_mut(&self.number) {
            work.activity = Some(Activity::of(root));
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.jobs.lock().at_work.remove(&self.number);
        self.jobs.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::cancel::Why;
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn never_more_than_the_limit() {
        for limit in [1, 3] {
            let (jobs, cancel) = (Jobs::new(limit), Cancel::default());
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            let _permit = jobs.take(&cancel).unwrap();
                            let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(count, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert!(most.into_inner() <= limit);
        }
        assert_eq!(Jobs::new(0).limit(), 1);
    }

    #[test]
    fn sleepers_make_room_and_the_end_lets_nobody_wait() {
        let (jobs, cancel) = (Jobs::new(1), Cancel::default());
        let mut sleeper = Command::new("/bin/sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| jobs.watch());
            let first = jobs.take(&cancel).unwrap();
            first.is_for(sleeper.id());
            // It can only come if the first one gives way.
            let second = jobs.take(&cancel).unwrap();
            // This one computes, and there is no third.
            let third = scope.spawn(|| jobs.take(&cancel).map(drop));
            cancel.cancel(Why::Failure);
            assert_eq!(third.join().unwrap(), Err(Cancelled(Why::Failure)));
            drop((first, second));
            jobs.end();
        });
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

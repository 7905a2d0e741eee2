//! The cache under change: random small Dockerfiles, random changes of what they are built from, and
//! builds side by side that are killed. What a build gives is what it would give without a cache,
//! and nothing is executed that does not depend on what has changed.
//!
//! `LAPSTRAKE_CHANGES` is how many Dockerfiles are tried (default 8), `LAPSTRAKE_CHANGES_SEED` where
//! the random numbers begin: a failure names the seed with which it comes again.

mod bench;
mod concurrent;
mod edits;
mod model;
mod random;

use std::fs;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use bench::{Bench, Built};
use edits::edit;
use model::{Input, Model, touched};
use random::Random;

/// How many changes each Dockerfile sees.
const CHANGES: usize = 8;

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}")),
        Err(_) => default,
    }
}

#[test]
fn a_cached_build_is_what_an_uncached_one_is_and_repeats_nothing() {
    let Some(bench) = Bench::new() else { return };
    let first = setting("LAPSTRAKE_CHANGES_SEED", 1);
    let end = first + setting("LAPSTRAKE_CHANGES", 8);
    let next = AtomicU64::new(first);
    let work = || {
        let mut seen = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return seen;
            }
            Case::new(&bench, seed).run(&mut seen);
        }
    };
    // Half of a build is waiting for the disk.
    let all = std::thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(work));
        workers.map(|worker| worker.join().unwrap_or_else(|why| resume_unwind(why)))
    });
    let sum = |count: fn(&Seen) -> usize| all.iter().map(count).sum::<usize>();
    let [executed, cached, failed] = [
        sum(|seen| seen.executed),
        sum(|seen| seen.cached),
        sum(|seen| seen.failed),
    ];
    println!("{executed} steps executed, {cached} cached, {failed} changes could not be built");
    assert!(executed > 0 && cached > executed / 2);
}

/// What has happened, for a test that tests nothing passes as well.
#[derive(Default)]
struct Seen {
    executed: usize,
    cached: usize,
    failed: usize,
}

/// One Dockerfile and its stores.
struct Case<'a> {
    bench: &'a Bench,
    seed: u64,
    random: Random,
    context: String,
    /// Where steps are found, and where every step is executed.
    stores: [String; 2],
    log: Vec<String>,
}

impl<'a> Case<'a> {
    fn new(bench: &'a Bench, seed: u64) -> Self {
        let case = Self {
            bench,
            seed,
            random: Random::new(seed),
            context: format!("context-{seed}"),
            stores: [format!("cached-{seed}"), format!("anew-{seed}")],
            log: Vec::new(),
        };
        for store in &case.stores {
            bench.store(store);
        }
        fs::create_dir(bench.path(&case.context)).unwrap();
        case
    }

    fn run(mut self, seen: &mut Seen) {
        let dir = self.bench.path(&self.context);
        let mut model = Model::new(&mut self.random);
        model.write(&dir, None, false);
        self.log.push(model.dockerfile());
        self.compare(&model);
        for _ in 0..CHANGES {
            let mut after = model.clone();
            let edit = edit(&mut after, &mut self.random);
            after.write(&dir, Some(&model), edit.keep_times);
            self.log
                .push(format!("=== {}\n{}", edit.what, after.dockerfile()));
            let Some(built) = self.compare(&after) else {
                // What cannot be built is taken back, and nothing has to be done for that.
                model.write(&dir, Some(&after), false);
                self.nothing_is_executed(&model);
                seen.failed += 1;
                continue;
            };
            seen.executed += built.executed.len();
            seen.cached += built.cached.len();
            self.only_what_was_touched(&model, &after, &edit.touched, &built);
            if self.random.one_in(4) {
                model.write(&dir, Some(&after), edit.keep_times);
                self.nothing_is_executed(&model);
                after.write(&dir, Some(&model), edit.keep_times);
            }
            model = after;
        }
        for store in &self.stores {
            let left = self.bench.leftovers(store);
            assert!(left.is_empty(), "{}{left:?}", self.told());
            fs::remove_dir_all(self.bench.path(store)).unwrap();
        }
    }

    /// What leads to a failure.
    fn told(&self) -> String {
        format!(
            "LAPSTRAKE_CHANGES=1 LAPSTRAKE_CHANGES_SEED={}\n{}\n",
            self.seed,
            self.log.join("\n")
        )
    }

    fn build(&self, store: &str, model: &Model, flags: &[&str]) -> Built {
        let argument = format!("A=v{}", model.argument);
        let mut all = vec!["--build-arg", "unknown=x"];
        if model.argument > 0 {
            all.extend(["--build-arg", &argument]);
        }
        all.extend(flags);
        self.bench.build(store, &self.context, &all)
    }

    /// Builds with the cache and without, and compares; none if it cannot be built.
    fn compare(&self, model: &Model) -> Option<Built> {
        let cached = self.build(&self.stores[0], model, &[]);
        let anew = self.build(&self.stores[1], model, &["--no-cache"]);
        assert_eq!(cached.code, anew.code, "{}{}", self.told(), cached.err);
        assert_eq!(
            cached.digest,
            anew.digest,
            "{}{}\n{}",
            self.told(),
            cached.err,
            anew.err
        );
        assert!(anew.cached.is_empty(), "{}{}", self.told(), anew.err);
        match cached.code {
            Some(0) => Some(cached),
            Some(3) => None,
            _ => panic!("{}{}", self.told(), cached.err),
        }
    }

    fn nothing_is_executed(&self, model: &Model) {
        let again = self.build(&self.stores[0], model, &[]);
        let told = self.told();
        assert_eq!(again.code, Some(0), "{told}{}", again.err);
        assert!(again.executed.is_empty(), "{told}taken back\n{}", again.err);
    }

    fn only_what_was_touched(
        &self,
        before: &Model,
        after: &Model,
        changed: &[Input],
        built: &Built,
    ) {
        let (old, new) = (before.dependencies(), after.dependencies());
        for step in &built.executed {
            let may = match (old.get(step), new.get(step)) {
                (Some(old), Some(new)) => touched(old, changed) || touched(new, changed),
                _ => true,
            };
            let told = self.told();
            assert!(may, "{told}step {step} was executed\n{}", built.err);
        }
        let known: Vec<_> = built.executed.union(&built.cached).collect();
        assert!(!known.is_empty(), "no step was seen:\n{}", built.err);
    }
}

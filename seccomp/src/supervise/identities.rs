//! [`Identities`]: which process has which credentials.
//!
//! The kernel keeps it for us: the soft value of `RLIMIT_LOCKS`, a limit that has had no effect since
//! Linux 2.4.25, is the number of a set of credentials. Limits are shared by the threads of a process,
//! copied by fork in the same instant as everything else, and kept by exec: what ids do, too. So there
//! is no table of processes, no parent to look for that may be gone, and no number of a process that
//! may mean another one by now. The filter keeps programs from setting that limit
//! (`class::protect`); a hard limit that was set too low from outside makes changing ids fail.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::io::Errno;

use super::credentials::Credentials;
use super::sys;

/// Numbers from here on are ours; no other value of the limit means anything.
const FIRST: u64 = 0x6c61_7073_0000_0000;

/// Credentials by number. One that was ever used stays: there are as many as users of a step.
pub struct Identities {
    first: Arc<Credentials>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_number: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, u64>,
}

impl Identities {
    /// Processes without a mark are `first`.
    pub fn new(first: Credentials) -> Self {
        Self {
            first: Arc::new(first),
            known: RwLock::default(),
        }
    }

    /// The credentials of the process that the thread `tid` belongs to.
    pub fn get(&self, tid: u32) -> Arc<Credentials> {
        // A process that is gone is asked about no more.
        let mark = sys::mark(tid).unwrap_or_default();
        let number = mark
            .checked_sub(FIRST)
            .and_then(|n| usize::try_from(n).ok());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = number.and_then(|number| known.by_number.get(number));
        Arc::clone(found.unwrap_or(&self.first))
    }

    /// Gives that process these credentials.
    pub fn set(&self, tid: u32, credentials: Credentials) -> Result<(), Errno> {
        sys::set_mark(tid, FIRST + self.number(credentials))
    }

    fn number(&self, credentials: Credentials) -> u64 {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(&credentials) {
            return *number;
        }
        let number = known.by_number.len() as u64;
        let credentials = Arc::new(credentials);
        known.by_number.push(Arc::clone(&credentials));
        known.numbers.insert(credentials, number);
        number
    }
}
